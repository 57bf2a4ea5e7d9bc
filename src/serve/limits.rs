//! How much each key may ask for in a minute.

use super::refusal::Refusal;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Seconds in which what was used comes back.
const SPAN_SECS: f64 = 60.0;

/// What keys may ask for, and what is left of that. Where there are no keys, all clients share one allowance.
#[derive(Debug)]
pub struct Limits {
    requests: Option<Mutex<Vec<Left>>>,
    tokens: Option<Mutex<Vec<Left>>>,
}

/// What one key has left of something; it comes back evenly.
#[derive(Debug, Clone, Copy)]
struct Left {
    most: f64,
    left: f64,
    at: Instant,
}

impl Left {
    fn new(most: u64, now: Instant) -> Self {
        Left { most: most as f64, left: most as f64, at: now }
    }

    /// What is left now.
    fn now(&mut self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.most / SPAN_SECS).min(self.most);
        self.at = now;
        self.left
    }

    /// Takes so much, or says in how many seconds there will be so much; of what is more than there ever is, in none.
    fn take(&mut self, amount: f64, now: Instant) -> Result<(), Option<f64>> {
        let left = self.now(now);
        if amount > self.most {
            return Err(None);
        }
        if amount > left {
            return Err(Some((amount - left) * SPAN_SECS / self.most));
        }
        self.left -= amount;
        Ok(())
    }

    fn give_back(&mut self, amount: f64, now: Instant) {
        self.left = (self.now(now) + amount).min(self.most);
    }
}

impl Limits {
    /// So many requests and tokens in a minute, for each of so many keys.
    pub fn new(requests: Option<u64>, tokens: Option<u64>, keys: usize) -> Self {
        let now = Instant::now();
        let of = |most: Option<u64>| most.map(|most| Mutex::new(vec![Left::new(most, now); keys.max(1)]));
        Limits { requests: of(requests), tokens: of(tokens) }
    }

    /// Takes a request of the key with this number.
    ///
    /// # Errors
    /// Where it has asked too often.
    pub fn request(&self, key: usize) -> Result<(), Refusal> {
        taken(&self.requests, key, 1.0, "requests")
    }

    /// Takes so many tokens of the key with this number, until they are [settled](Charge::settle).
    ///
    /// # Errors
    /// Where it has asked for too many.
    pub fn tokens(self: &Arc<Self>, key: usize, tokens: usize) -> Result<Charge, Refusal> {
        taken(&self.tokens, key, tokens as f64, "tokens")?;
        Ok(Charge { limits: self.clone(), key, tokens, used: 0 })
    }

    /// Says in the headers of an answer what the key with this number has left, as OpenAI does.
    pub fn say(&self, key: usize, headers: &mut HeaderMap) {
        let mut say = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        let now = |left: &mut Left| (left.most, left.now(Instant::now()));
        let until_whole = |(most, left): (f64, f64)| format!("{:.3}s", (most - left) * SPAN_SECS / most);
        if let Some(whole) = with(&self.requests, key, now) {
            say("x-ratelimit-limit-requests", whole.0.to_string());
            say("x-ratelimit-remaining-requests", whole.1.floor().to_string());
            say("x-ratelimit-reset-requests", until_whole(whole));
        }
        if let Some(whole) = with(&self.tokens, key, now) {
            say("x-ratelimit-limit-tokens", whole.0.to_string());
            say("x-ratelimit-remaining-tokens", whole.1.floor().to_string());
            say("x-ratelimit-reset-tokens", until_whole(whole));
        }
    }
}

/// Tokens that a request may use; what it has not used comes back when this goes.
#[derive(Debug)]
#[must_use]
pub struct Charge {
    limits: Arc<Limits>,
    key: usize,
    tokens: usize,
    used: usize,
}

impl Charge {
    /// The request is being answered: until it is known how many it uses, it uses all.
    pub fn begin(&mut self) {
        self.used = self.tokens;
    }

    /// It has used so many.
    pub fn settle(&mut self, used: usize) {
        self.used = used;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let rest = self.tokens.saturating_sub(self.used) as f64;
        with(&self.limits.tokens, self.key, |left| left.give_back(rest, Instant::now()));
    }
}

fn with<T>(limit: &Option<Mutex<Vec<Left>>>, key: usize, act: impl FnOnce(&mut Left) -> T) -> Option<T> {
    let mut all = limit.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
    all.get_mut(key).map(act)
}

fn taken(limit: &Option<Mutex<Vec<Left>>>, key: usize, amount: f64, what: &str) -> Result<(), Refusal> {
    let refused =
        |message: String| Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, message).code("rate_limit_exceeded"));
    match with(limit, key, |left| (left.take(amount, Instant::now()), left.most)) {
        None | Some((Ok(()), _)) => Ok(()),
        Some((Err(None), most)) => {
            refused(format!("the request asks for {amount} {what}, which is more than the {most} of a minute"))
        }
        Some((Err(Some(secs)), most)) => {
            let secs = secs.ceil().max(1.0) as u64;
            let message = format!("{most} {what} in a minute are all that may be asked for: try again in {secs} s");
            refused(message).map_err(|refusal| refusal.retry_after(secs))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_used_comes_back_evenly() {
        let begin = Instant::now();
        let after = |secs: u64| begin + Duration::from_secs(secs);
        let mut left = Left::new(30, begin);
        assert_eq!(left.take(20.0, begin), Ok(()));
        assert_eq!(left.take(20.0, begin), Err(Some(20.0)), "ten are there, and one comes in two seconds");
        assert_eq!(left.take(20.0, after(20)), Ok(()));
        left.give_back(15.0, after(20));
        assert_eq!(left.take(15.0, after(20)), Ok(()));
        assert_eq!(left.take(31.0, after(600)), Err(None));
        assert_eq!(left.now(after(600)), 30.0, "no more than there ever is");
    }

    #[test]
    fn keys_have_what_they_have_each_and_are_told() {
        let limits = Arc::new(Limits::new(Some(2), Some(100), 2));
        assert!(limits.request(0).is_ok() && limits.request(0).is_ok() && limits.request(1).is_ok());
        let refused = limits.request(0).unwrap_err();
        assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
        let headers = refused.response().headers().clone();
        assert!(headers.get("retry-after").is_some_and(|secs| secs.to_str().unwrap().parse::<u64>().unwrap() >= 29));
        let mut charge = limits.tokens(1, 90).unwrap();
        assert!(limits.tokens(1, 60).is_err() && limits.tokens(0, 60).is_ok());
        charge.begin();
        charge.settle(10);
        drop(charge);
        let mut begun = limits.tokens(1, 60).unwrap();
        begun.begin(); // and its client goes away
        drop(begun);
        drop(limits.tokens(1, 20).unwrap()); // one that the engine does not take costs nothing
        let too_large = limits.tokens(0, 101).unwrap_err();
        assert!(too_large.response().headers().get("retry-after").is_none());
        let mut headers = HeaderMap::new();
        limits.say(1, &mut headers);
        let said = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            (said("x-ratelimit-limit-requests"), said("x-ratelimit-remaining-requests")),
            ("2".into(), "1".into())
        );
        assert!(said("x-ratelimit-remaining-tokens").parse::<u64>().unwrap().abs_diff(30) <= 1, "{headers:?}");
        assert!(said("x-ratelimit-reset-tokens").ends_with('s'));
        let mut none = HeaderMap::new();
        Limits::new(None, None, 0).say(0, &mut none);
        assert!(none.is_empty() && Limits::new(None, None, 0).request(0).is_ok());
    }
}
