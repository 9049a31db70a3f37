//! Medians. Nothing here knows what the numbers are.

/// The middle one; 0 of none. Of an even count, the lower of the two in the middle.
pub(super) fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len().saturating_sub(1) / 2;
    numbers.get(middle).copied().unwrap_or_default()
}

/// The least; 0 of none.
pub(super) fn least(numbers: impl IntoIterator<Item = f64>) -> f64 {
    numbers.into_iter().min_by(f64::total_cmp).unwrap_or_default()
}

/// The median of what each pair gives: the first divided by the second. A slow moment of the machine that hits both
/// of a pair then cancels out, which it does not in a ratio of two medians.
pub(super) fn median_ratio(pairs: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    median(
        pairs
            .into_iter()
            .filter(|(_, under)| *under > 0.0)
            .map(|(over, under)| over / under),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles() {
        let cases: [(&[f64], f64, f64); 4] = [
            (&[], 0.0, 0.0),
            (&[3.0], 3.0, 3.0),
            (&[9.0, 1.0, 2.0], 2.0, 1.0),
            (&[4.0, 1.0, 3.0, 2.0], 2.0, 1.0),
        ];
        for (numbers, middle, lowest) in cases {
            assert_eq!(
                median(numbers.iter().copied()).to_bits(),
                middle.to_bits(),
                "{numbers:?}"
            );
            assert_eq!(
                least(numbers.iter().copied()).to_bits(),
                lowest.to_bits(),
                "{numbers:?}"
            );
        }
    }

    #[test]
    fn a_slow_moment_that_hits_both_cancels_out() {
        let pairs = [(2.0, 1.0), (20.0, 10.0), (2.0, 1.0), (8.0, 4.0), (6.0, 1.0)];
        assert_eq!(median_ratio(pairs).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median_ratio([(1.0, 0.0)]).to_bits(), 0.0_f64.to_bits());
    }
}
