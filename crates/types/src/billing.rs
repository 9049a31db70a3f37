//! What a request on a profile costs (design: Money).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Billing classes from cheapest to costliest; failover never moves up without leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BillingClass {
    /// Costs nothing.
    Free,
    /// Part of a flat fee.
    Subscription,
    /// Drawn from credit bought before.
    Prepaid,
    /// Billed by use.
    Metered,
}

impl BillingClass {
    /// All classes, cheapest first.
    pub const ALL: [Self; 4] = [Self::Free, Self::Subscription, Self::Prepaid, Self::Metered];

    /// The word used in provider files and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Subscription => "subscription",
            Self::Prepaid => "prepaid",
            Self::Metered => "metered",
        }
    }
}

impl fmt::Display for BillingClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for BillingClass {
    type Err = String;
    /// Takes the words of [`BillingClass::as_str`]; the error lists them.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|class| class.as_str() == text)
            .ok_or_else(|| {
                format!("{text:?} is not a billing class; allowed are free, subscription, prepaid, metered")
            })
    }
}
