//! Who a grant belongs to, and when two credentials belong to the same account.

/// The identity behind a grant, as far as the provider told us. Blank values are stored as `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// The provider's account or workspace id (for ChatGPT the `chatgpt_account_id` claim).
    pub account_id: Option<String>,
    /// E-mail address, a label for people.
    pub email: Option<String>,
    /// A stable subject, used for a profile name where no e-mail is known (spec.md 3.2).
    pub subject: Option<String>,
    /// Plan name (`plus`, `max`, ...), a label for people.
    pub plan: Option<String>,
}

impl Account {
    /// Neither an account id nor an e-mail is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        id(self).is_none() && email(self).is_none()
    }

    /// May a credential of `incoming` take the place of one of `self`? (spec.md 8.6, "adopt"): yes when nothing is
    /// known of `self`; else only when both are known to be the same account.
    #[must_use]
    pub fn may_adopt(&self, incoming: &Self) -> bool {
        self.is_unknown() || self.matches(incoming) == Some(true)
    }

    /// Does `incoming` belong to somebody else than `self`? What the answer of a refresh is held against. Only a
    /// known difference of account or subject counts, or of e-mail where no id can be compared: many token answers
    /// carry no identity at all, and an e-mail address may change while the account stays.
    #[must_use]
    pub fn contradicts(&self, incoming: &Self) -> bool {
        match (
            differ(id(self), id(incoming)),
            differ(subject(self), subject(incoming)),
        ) {
            (None, None) => differ(email(self), email(incoming)) == Some(true),
            (by_id, by_subject) => by_id == Some(true) || by_subject == Some(true),
        }
    }

    /// Whether both are the same account, or `None` where nothing comparable is known. Account ids decide where both
    /// have one; but a workspace's id is shared by its members, so subject or e-mail must then not differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> Option<bool> {
        let person = differ(subject(self), subject(other)).or_else(|| differ(email(self), email(other)));
        match differ(id(self), id(other)) {
            Some(different) => Some(!different && person != Some(true)),
            None => person.map(|different| !different),
        }
    }

    /// The newer knowledge laid over the older: what `newer` does not say is kept.
    #[must_use]
    pub fn updated_by(&self, newer: &Self) -> Self {
        let pick = |new: &Option<String>, old: &Option<String>| new.clone().or_else(|| old.clone());
        Self {
            account_id: pick(&newer.account_id, &self.account_id),
            email: pick(&newer.email, &self.email),
            subject: pick(&newer.subject, &self.subject),
            plan: pick(&newer.plan, &self.plan),
        }
    }
}

fn differ(a: Option<String>, b: Option<String>) -> Option<bool> {
    Some(a? != b?)
}

fn id(account: &Account) -> Option<String> {
    present(account.account_id.as_deref())
}

fn subject(account: &Account) -> Option<String> {
    present(account.subject.as_deref())
}

fn email(account: &Account) -> Option<String> {
    present(account.email.as_deref()).map(|email| email.to_lowercase())
}

fn present(value: Option<&str>) -> Option<String> {
    value
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(id: Option<&str>, email: Option<&str>) -> Account {
        Account {
            account_id: id.map(Into::into),
            email: email.map(Into::into),
            ..Account::default()
        }
    }

    #[test]
    fn identity_rules() {
        let cases = [
            (account(None, None), account(Some("1"), None), None, true),
            (
                account(Some("1"), None),
                account(Some("1"), None),
                Some(true),
                true,
            ),
            (
                account(Some("1"), None),
                account(Some("2"), None),
                Some(false),
                false,
            ),
            (
                account(Some("1"), Some("a@b.c")),
                account(Some("2"), Some("a@b.c")),
                Some(false),
                false,
            ),
            (
                account(Some("1"), Some("a@b.c")),
                account(Some("1"), Some("x@b.c")),
                Some(false),
                false,
            ),
            (
                account(None, Some("A@b.c ")),
                account(Some("2"), Some("a@b.c")),
                Some(true),
                true,
            ),
            (
                account(Some("1"), None),
                account(None, Some("a@b.c")),
                None,
                false,
            ),
            (account(Some(" "), Some("")), account(Some("2"), None), None, true),
        ];
        for (ours, theirs, matches, adopt) in cases {
            assert_eq!(ours.matches(&theirs), matches, "{ours:?} {theirs:?}");
            assert_eq!(ours.may_adopt(&theirs), adopt, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn a_changed_address_is_no_other_account() {
        let ours = account(Some("1"), Some("old@b.c"));
        assert!(!ours.contradicts(&account(Some("1"), Some("new@b.c"))));
        assert!(ours.contradicts(&account(Some("2"), Some("old@b.c"))));
        assert!(!ours.contradicts(&account(None, None)));
        assert!(account(None, Some("a@b.c")).contradicts(&account(None, Some("x@b.c"))));
    }
}
