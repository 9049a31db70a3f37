//! What must never happen, judged from outside: from what the server saw and issued, and from the bytes on the disk.
//!
//! It knows nothing of the refresh machine. It follows every token from the server's answer on, classifies every send of
//! a refresh token by the four cases in which one may be sent again (design.md 5), and looks whether what is handed
//! out is durable at that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::{Request, Response};
use serde_json::Value;
use tokensink_testkit::MemFiles;
use tokensink_types::{Body, Secret, SpendKey, UnixMillis};
use url::form_urlencoded;

use crate::disk::Holdings;

/// What became of a request that was written, at least in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was cut off before the server had it whole.
    Cut,
    /// The server had it; nobody knows what it answered.
    Unknown,
    /// A whole answer came that leaves the token unspent.
    Unspent,
    /// A whole answer came that ends the token, one way or the other.
    Definite,
}

/// By which of the cases of the promise a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Case {
    /// Nothing of this token had left before, which is also case (a).
    First,
    /// (b): every earlier answer left it unspent.
    Unspent,
    /// (c): within the server's grace.
    Grace,
    /// (d): the outcome is unknown, nothing newer is known, and the access token is dead.
    LastResort,
    /// The server does not rotate.
    Exempt,
}

/// One request that left.
#[derive(Debug, Clone)]
struct Sent {
    token: String,
    fate: Fate,
    wall: UnixMillis,
    at: Duration,
    /// The server took the token and issued the next.
    consumed: bool,
    process: usize,
    /// Its process lives and waits for the answer.
    under_way: bool,
}

/// Who sends, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) process: usize,
    /// By the wall clock, which may be turned.
    pub(crate) wall: UnixMillis,
    /// By a clock that nobody turns.
    pub(crate) at: Duration,
}

/// One token answer of the server.
#[derive(Debug, Clone)]
struct Issued {
    /// Which login it descends from.
    chain: usize,
    /// Whose it is.
    account: String,
    /// Something that was durable before it says whose it must be.
    known: bool,
    access: String,
    refresh: String,
    /// The earliest time at which its holder may believe it dead, by the wall clock.
    ends: UnixMillis,
    /// When the server's word on it ends, by the wall clock.
    dies: UnixMillis,
    /// It is another account's, and not only the server could know.
    wrong: bool,
    /// How many requests had left before.
    after: usize,
}

/// What the provider's definition declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) grace: Duration,
    pub(crate) rotates: bool,
    pub(crate) life: Duration,
}

/// The books.
#[derive(Debug, Clone)]
pub(crate) struct Oracle {
    terms: Terms,
    issued: Vec<Issued>,
    sends: Vec<Sent>,
    rejected: BTreeSet<String>,
    /// The newest answer of each chain that was seen durable.
    durable: BTreeMap<usize, usize>,
    chains: usize,
    /// The newest answer of each chain that was durable just before another program wrote.
    untouched: Vec<Option<usize>>,
    /// The logins that stood in stores then.
    in_stores: BTreeSet<usize>,
    /// Access tokens that were durable when another program wrote, and may be durable no more.
    destroyed: BTreeSet<String>,
    /// Logins that another program has replaced in every store by another login, perhaps an earlier one.
    displaced: BTreeSet<usize>,
    /// Access tokens that a failed sync has dropped, while everybody still reads them, and the next sync says nothing.
    dropped: BTreeSet<String>,
    pub(crate) cases: BTreeMap<Case, u64>,
    pub(crate) violations: Vec<String>,
    /// Bytes of the last request and of the last answer.
    pub(crate) lengths: (usize, usize),
    /// Somebody has turned the wall clock: what it says proves nothing.
    pub(crate) clock_turned: bool,
}

impl Oracle {
    pub(crate) fn new(terms: Terms) -> Self {
        Self {
            terms,
            issued: Vec::new(),
            sends: Vec::new(),
            rejected: BTreeSet::new(),
            durable: BTreeMap::new(),
            chains: 0,
            untouched: Vec::new(),
            in_stores: BTreeSet::new(),
            destroyed: BTreeSet::new(),
            displaced: BTreeSet::new(),
            dropped: BTreeSet::new(),
            cases: BTreeMap::new(),
            violations: Vec::new(),
            lengths: (0, 0),
            clock_turned: false,
        }
    }

    fn violation(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// Somebody has logged in as `account`; `named` where what is stored of the login says so.
    pub(crate) fn login(
        &mut self,
        (account, named): (&str, bool),
        access: &str,
        refresh: &str,
        ends: UnixMillis,
    ) {
        self.issued.push(Issued {
            chain: self.chains,
            account: account.to_owned(),
            known: named,
            access: access.to_owned(),
            refresh: refresh.to_owned(),
            ends,
            dies: ends,
            wrong: false,
            after: self.sends.len(),
        });
        self.chains += 1;
    }

    /// Another program is about to write: what it takes away was durable before.
    pub(crate) fn others_write(&mut self, files: &MemFiles) {
        let durable = Holdings::of(&files.durable());
        self.untouched = (0..self.chains)
            .map(|chain| self.newest(chain, &durable))
            .collect();
        self.in_stores = self.logins_in_stores(files);
        let held = self.issued.iter().filter(|issued| durable.holds(&issued.access));
        self.destroyed.extend(held.map(|issued| issued.access.clone()));
    }

    /// Another program has written: what it has taken away is its doing. A login that has a record stays.
    pub(crate) fn others_wrote(&mut self, files: &MemFiles) {
        let durable = Holdings::of(&files.durable());
        for (chain, before) in std::mem::take(&mut self.untouched).into_iter().enumerate() {
            match self.newest(chain, &durable) {
                now if now == before => {}
                Some(now) => {
                    self.durable.insert(chain, now);
                }
                None => {
                    self.durable.remove(&chain);
                }
            }
        }
        let left = self.logins_in_stores(files);
        let gone = std::mem::take(&mut self.in_stores);
        self.displaced.retain(|chain| !left.contains(chain));
        if !left.is_empty() {
            self.displaced.extend(gone.difference(&left));
        }
    }

    /// The logins that stand in stores, whatever the records say.
    fn logins_in_stores(&self, files: &MemFiles) -> BTreeSet<usize> {
        let stores = Holdings::of(&files.snapshot()).only_stores();
        let held = self.issued.iter().filter(|issued| stores.holds(&issued.refresh));
        held.map(|issued| issued.chain).collect()
    }

    /// A sync has failed and dropped what it was to write, which stays to be read.
    pub(crate) fn sync_is_lost(&mut self, files: &MemFiles) {
        let (durable, visible) = (Holdings::of(&files.durable()), Holdings::of(&files.snapshot()));
        let lost = self.issued.iter().map(|issued| &issued.access);
        let lost = lost.filter(|access| visible.holds(access) && !durable.holds(access));
        self.dropped.extend(lost.cloned());
    }

    /// An API has answered 401 to this access token.
    pub(crate) fn rejected(&mut self, access: &str) {
        self.rejected.insert(access.to_owned());
    }

    fn with_refresh(&self, refresh: &str) -> Option<usize> {
        self.issued.iter().rposition(|issued| issued.refresh == refresh)
    }

    /// A refresh request leaves: is it allowed, and was it recorded? Returns its number.
    pub(crate) fn sent(
        &mut self,
        files: &MemFiles,
        request: &Request<Body>,
        fate: Fate,
        moment: Moment,
    ) -> usize {
        let token = token_of(request);
        let Some(issued) = self.with_refresh(&token) else {
            self.violation("a refresh token was sent that was never issued");
            return self.note(token, fate, moment);
        };
        let key = key_of(&token);
        if self.terms.rotates && !Holdings::of(&files.durable()).says_sent(&key) {
            self.violation("a request left before the record that says so was durable");
        }
        match self.case(&token, issued, files, moment) {
            Ok(case) => *self.cases.entry(case).or_default() += 1,
            Err(why) => self.violation(format!("send outside (a) to (d): {why}")),
        }
        self.note(token, fate, moment)
    }

    fn note(&mut self, token: String, fate: Fate, moment: Moment) -> usize {
        self.sends.push(Sent {
            token,
            fate,
            wall: moment.wall,
            at: moment.at,
            consumed: false,
            process: moment.process,
            under_way: true,
        });
        self.sends.len() - 1
    }

    fn case(&self, token: &str, issued: usize, files: &MemFiles, moment: Moment) -> Result<Case, String> {
        let Moment { process, wall, at } = moment;
        if !self.terms.rotates {
            return Ok(Case::Exempt);
        }
        let visible = Holdings::of(&files.snapshot());
        // An answer that left the token as it was, and is stored, settles what was sent before it.
        let settled = self.issued.iter().rev().filter(|issued| issued.refresh == token);
        let settled = settled
            .clone()
            .find(|issued| visible.holds(&issued.access))
            .map_or(0, |issued| issued.after);
        let earlier: Vec<&Sent> = self.sends[settled..]
            .iter()
            .filter(|sent| sent.token == token)
            .collect();
        if earlier.iter().any(|sent| sent.under_way) {
            return Err("an earlier one is under way".to_owned());
        }
        let open = earlier.iter().find(|sent| sent.fate != Fate::Unspent);
        let (Some(open), Some(last)) = (open, earlier.last()) else {
            return Ok(if earlier.is_empty() {
                Case::First
            } else {
                Case::Unspent
            });
        };
        let of_chain = |other: &&Issued| other.chain == self.issued[issued].chain;
        let newer = self.issued[issued + 1..].iter().filter(of_chain);
        if let Some(newer) = newer
            .filter(|newer| newer.refresh != token)
            .find(|newer| visible.holds(&newer.refresh))
        {
            return Err(format!("a newer one is stored (login {})", newer.chain));
        }
        let elapsed = open.wall.until(wall);
        if open.wall <= wall && elapsed < self.terms.grace {
            return Ok(Case::Grace);
        }
        let with_token = self.issued.iter().filter(|other| other.refresh == token);
        let dead = with_token.clone().all(|issued| {
            wall.plus(Duration::from_secs(1)) >= issued.ends || self.rejected.contains(&issued.access)
        });
        if !dead && !self.clock_turned {
            return Err("the outcome of an earlier one is unknown, and the access token lives".to_owned());
        }
        let pause = at.saturating_sub(last.at);
        if pause < Duration::from_secs(1) && last.process == process {
            return Err(format!("again after {pause:?}, without back-off"));
        }
        Ok(Case::LastResort)
    }

    /// The exchange of this process is over for it, or it is dead.
    pub(crate) fn over(&mut self, process: usize) {
        for sent in self.sends.iter_mut().filter(|sent| sent.process == process) {
            sent.under_way = false;
        }
    }

    /// The server has answered request `number`; how much of that arrives is another matter.
    pub(crate) fn served(
        &mut self,
        number: usize,
        response: &Response<Body>,
        granted: bool,
        account: Option<&str>,
        wall: UnixMillis,
    ) {
        self.sends[number].consumed = granted && self.terms.rotates;
        if !response.status().is_success() {
            return;
        }
        let Ok(answer) = serde_json::from_slice::<Value>(response.body().expose()) else {
            return;
        };
        let Some(access) = answer["access_token"].as_str() else {
            return;
        };
        if self.issued.iter().any(|issued| issued.access == access) {
            return;
        }
        let token = self.sends[number].token.clone();
        let Some(parent) = self.with_refresh(&token) else {
            return;
        };
        let refresh = answer["refresh_token"].as_str().unwrap_or(&token);
        if refresh == token {
            self.sends[number].consumed = false;
        }
        let open = &self.sends[self.issued[parent].after..];
        let first = open.iter().find(|sent| sent.token == token);
        let since = first.map_or(wall, |sent| sent.wall.min(wall));
        let before = &self.issued[parent];
        // Whatever an earlier answer said, the server goes on with the account of the login.
        let mut chain = self.issued.iter().filter(|issued| issued.chain == before.chain);
        let owner = chain.next().map_or("", |login| login.account.as_str());
        let account = account.unwrap_or(owner).to_owned();
        let wrong = before.known && account != before.account;
        self.issued.push(Issued {
            chain: before.chain,
            account,
            known: true,
            access: access.to_owned(),
            refresh: refresh.to_owned(),
            ends: since.plus(self.terms.life),
            dies: wall.plus(self.terms.life),
            wrong,
            after: self.sends.len(),
        });
    }

    /// The whole answer to request `number` has arrived at its process. Only a whole answer other than a success, a
    /// terminal error, 502 and 504 leaves the token unspent.
    pub(crate) fn answered(&mut self, number: usize, response: &Response<Body>) {
        let status = response.status().as_u16();
        let error: Value = serde_json::from_slice(response.body().expose()).unwrap_or_default();
        self.sends[number].fate = match status {
            200..=299 | 502 | 504 => Fate::Unknown,
            _ if error["error"] == "invalid_grant" => Fate::Definite,
            _ => Fate::Unspent,
        };
    }

    /// A token was handed out, at this time by the wall clock.
    pub(crate) fn handed_out(&mut self, files: &MemFiles, access: &str, wall: UnixMillis) {
        let Some(at) = self.issued.iter().position(|issued| issued.access == access) else {
            return self.violation("a token was handed out that was never issued");
        };
        let issued = self.issued[at].clone();
        if issued.wrong {
            self.violation("a token of another account was handed out");
        }
        let excused = self.destroyed.contains(access) || self.dropped.contains(access);
        if !excused && !self.is_safe(at, &Holdings::of(&files.durable())) {
            self.violation("a token was handed out before it was durable");
        }
        if wall > issued.dies && !self.clock_turned {
            self.violation("a token was handed out after its end");
        }
    }

    /// Is the token durable, or what followed it? Who has read a token while it was may hand it out when its successor
    /// has taken its place: nothing can be lost by that.
    fn is_safe(&self, at: usize, durable: &Holdings) -> bool {
        let issued = &self.issued[at];
        let followers = self.issued[at + 1..].iter();
        let mut followers = followers.filter(|later| later.chain == issued.chain);
        durable.holds(&issued.access) || followers.any(|later| durable.holds(&later.access))
    }

    /// The newest answer of a login that stands somewhere.
    fn newest(&self, chain: usize, durable: &Holdings) -> Option<usize> {
        let all = self.issued.iter().enumerate();
        let of_chain = all.filter(|(_, issued)| issued.chain == chain && !issued.wrong);
        let mut held = of_chain.filter(|(_, issued)| durable.holds(&issued.refresh));
        held.next_back().map(|(at, _)| at)
    }

    /// Looks whether everything that was durable is still there, or something that followed it.
    pub(crate) fn look(&mut self, files: &MemFiles) {
        let durable = Holdings::of(&files.durable());
        for chain in 0..self.chains {
            match (self.newest(chain, &durable), self.durable.get(&chain).copied()) {
                (Some(newest), Some(before)) if newest < before && !self.is_replaced(chain, &durable) => {
                    self.violation("a stored refresh token is gone, and an older one is left");
                }
                (None, Some(_)) if !self.is_replaced(chain, &durable) => {
                    self.violation("the stored refresh token is gone");
                }
                (Some(newest), _) => {
                    self.durable.insert(chain, newest);
                }
                (None, _) => {}
            }
        }
    }

    /// Another login has taken its place.
    fn is_replaced(&self, chain: usize, durable: &Holdings) -> bool {
        let mut later = self.issued.iter().filter(|issued| issued.chain > chain);
        self.displaced.contains(&chain) || later.any(|issued| durable.holds(&issued.refresh))
    }

    /// Did the server take a token whose successor nobody has, and does a record say so? That is the one loss that no
    /// client can avert where the server has no grace. While there are `faults`, the record may be behind.
    pub(crate) fn lost_answer(&self, files: &MemFiles, faults: bool) -> bool {
        let (durable, visible) = (Holdings::of(&files.durable()), Holdings::of(&files.snapshot()));
        let mut consumed = self.sends.iter().filter(|sent| sent.consumed);
        consumed.any(|sent| {
            let Some(parent) = self.with_refresh(&sent.token) else {
                return false;
            };
            let chain = self.issued[parent].chain;
            let mut followers = self.issued[parent + 1..]
                .iter()
                .filter(|issued| issued.chain == chain && issued.refresh != sent.token);
            let key = key_of(&sent.token);
            // Who has no luck in writing the refusal down says it nevertheless; the next one finds it out again.
            let is_told = visible.says_lost(&key) || (faults && durable.says_sent(&key));
            is_told && !followers.any(|issued| durable.holds(&issued.refresh))
        })
    }

    /// Was an answer for another account played?
    pub(crate) fn saw_wrong_account(&self) -> bool {
        self.issued.iter().any(|issued| issued.wrong)
    }

    /// Requests that left, at least in part.
    pub(crate) fn sends(&self) -> usize {
        self.sends.len()
    }
}

/// The refresh token in a request's form or JSON.
fn token_of(request: &Request<Body>) -> String {
    let body = request.body().expose();
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        return json["refresh_token"].as_str().unwrap_or_default().to_owned();
    }
    form_urlencoded::parse(body)
        .find(|(name, _)| name == "refresh_token")
        .map_or_else(String::new, |(_, token)| token.into_owned())
}

/// The spend key as records write it.
fn key_of(token: &str) -> String {
    hex::encode(SpendKey::of(&Secret::new(token)).0)
}
