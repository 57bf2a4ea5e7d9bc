//! Numbers as people read them: sizes, counts, durations.

pub use crate::progress::{count, counted, metric, signed_metric};

use crate::train::event::EvalEvent;
use std::time::Duration;

/// A size in decimal units, three digits: `"253 MB"`, `"1.93 GB"`, `"640 B"`.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// A rate per second: `"812"`, `"1,204"`, `"8.13"`; `"-"` if it is not finite.
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if !rate.is_finite() => "-".to_owned(),
        rate if rate < 99.95 => format!("{rate:.3}").chars().take(4).collect(),
        rate => count(rate.round() as u64),
    }
}

/// A duration in its two largest units: `"0.4 s"`, `"42 s"`, `"3 min 07 s"`, `"2 h 05 min"`, `"3 d 04 h"`.
pub fn duration(duration: Duration) -> String {
    if duration < Duration::from_millis(9_950) {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    let secs = duration.as_secs().saturating_add(u64::from(duration.subsec_millis() >= 500));
    match secs {
        ..60 => format!("{secs} s"),
        60..3_600 => format!("{} min {:02} s", secs / 60, secs % 60),
        3_600..86_400 => format!("{} h {:02} min", secs / 3_600, secs / 60 % 60),
        _ => format!("{} d {:02} h", secs / 86_400, secs / 3_600 % 24),
    }
}

/// `value` with three digits and the largest unit that leaves at least 1 of it.
fn scaled(value: u64, units: &[&str]) -> String {
    let mut scaled = value as f64;
    let mut unit = 0;
    // 999.5 would be shown as 1000: it is 1.00 of the next unit.
    while scaled >= 999.5 && unit + 1 < units.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    let digits = match scaled {
        _ if unit == 0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$} {}", units[unit])
}

/// An evaluation in a line: its loss, and what tells the best one where that is something else.
pub fn evaluation(e: &EvalEvent) -> String {
    let loss = e.eval_loss.map(|loss| format!("eval loss {}", metric(loss)));
    let best_by = e.get(&e.best_by).filter(|_| e.best_by != "eval_loss");
    let best_by = best_by.map(|value| format!("{} {}", e.best_by, metric(value)));
    let said: Vec<String> = loss.into_iter().chain(best_by).collect();
    format!("step {}: {}", e.step, said.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let shown: Vec<String> =
            [0, 640, 999, 1_000, 9_994, 9_996, 99_960, 253_123_456, 999_600_000, 1_930_000_000, u64::MAX]
                .map(bytes)
                .into();
        assert_eq!(
            shown,
            [
                "0 B", "640 B", "999 B", "1.00 kB", "9.99 kB", "10.0 kB", "100 kB", "253 MB", "1.00 GB", "1.93 GB",
                "18.4 EB"
            ]
        );
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn rates_keep_three_digits_below_a_hundred() {
        assert_eq!(
            [0.0, 8.126, 81.26, 99.96, 812.4, 1_203.6].map(rate),
            ["0.00", "8.12", "81.2", "100", "812", "1,204"]
        );
        assert_eq!(rate(f64::INFINITY), "-");
        assert_eq!(rate(f64::NAN), "-");
    }

    #[test]
    fn durations_have_two_units() {
        let shown =
            [0.44, 9.96, 59.4, 59.5, 187.0, 3_599.6, 7_500.0, 273_600.0].map(|s| duration(Duration::from_secs_f64(s)));
        assert_eq!(
            shown,
            ["0.4 s", "10 s", "59 s", "1 min 00 s", "3 min 07 s", "1 h 00 min", "2 h 05 min", "3 d 04 h"]
        );
        assert_eq!(duration(Duration::MAX), "213503982334601 d 07 h");
    }
}
