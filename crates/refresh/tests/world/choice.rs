//! Enumeration: a run asks for a choice wherever something can go wrong; every sequence of choices with at most a
//! given number of faults is run once.

/// One run's source of choices. Choice 0 is always "nothing goes wrong" and free, each other one costs a fault.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choices {
    /// What was chosen, and out of how many.
    path: Vec<(usize, usize)>,
    at: usize,
    budget: usize,
    used: usize,
}

impl Choices {
    pub(crate) fn with_budget(budget: usize) -> Self {
        Self {
            budget,
            ..Self::default()
        }
    }

    /// One of `options`; always 0 when no fault is left.
    pub(crate) fn pick(&mut self, options: usize) -> usize {
        let options = if self.used < self.budget { options } else { 1 };
        if self.at == self.path.len() {
            self.path.push((0, options));
        }
        let chosen = self.path[self.at].0;
        self.at += 1;
        self.used += usize::from(chosen > 0);
        chosen
    }

    /// Faults used up in this run.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// What was chosen, as far as it was a fault.
    pub(crate) fn faults(&self) -> Vec<(usize, usize)> {
        let chosen = self.path.iter().enumerate();
        chosen
            .filter(|(_, (chosen, _))| *chosen > 0)
            .map(|(at, (chosen, _))| (at, *chosen))
            .collect()
    }

    /// Moves on to the next sequence; `None` when all were run.
    pub(crate) fn next(mut self) -> Option<Self> {
        self.path.truncate(self.at);
        while let Some((chosen, options)) = self.path.pop() {
            if chosen + 1 < options {
                self.path.push((chosen + 1, options));
                self.at = 0;
                self.used = 0;
                return Some(self);
            }
        }
        None
    }
}
