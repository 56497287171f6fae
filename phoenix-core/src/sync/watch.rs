//! Renewing whenever a certificate becomes due.
//!
//! [`Watch`] decides when to look next: at the moment the next certificate is due, but at least
//! once an hour, since clocks are set and guests are changed by hand; after a failure with pauses
//! that double from a minute to an hour. It reads no clock and waits for nothing by itself.

use std::time::Duration;

use time::OffsetDateTime;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(3_600);
/// The pause after the first failure.
const FIRST: Duration = Duration::from_secs(60);
/// The shortest pause: what is due again at once was issued wrongly, and must not be issued in a
/// loop.
const SHORTEST: Duration = Duration::from_secs(1);

/// When to renew next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watch {
    failures: u32,
}

impl Watch {
    /// Nothing has been looked at yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long to pause after a renewal that ended well at `now`, when the next certificate is
    /// due at `due` (`None`: the site has none).
    pub fn after_success(&mut self, now: OffsetDateTime, due: Option<OffsetDateTime>) -> Duration {
        self.failures = 0;
        let until = due.map_or(LONGEST, |due| {
            // A moment later: it is due after that instant, not at it.
            Duration::try_from(due - now + time::Duration::SECOND).unwrap_or_default()
        });
        until.clamp(SHORTEST, LONGEST)
    }

    /// How long to pause after a renewal that failed. `random` (0 to 1) makes it up to a quarter
    /// shorter, so that watchers which failed together do not come back together.
    pub fn after_failure(&mut self, random: f64) -> Duration {
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let pause = FIRST.saturating_mul(1 << doublings).min(LONGEST);
        pause.mul_f64(1.0 - random.clamp(0.0, 1.0) / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

    #[test]
    fn it_wakes_when_the_next_is_due_and_once_an_hour() {
        let mut watch = Watch::new();
        let minute = NOW + time::Duration::MINUTE;
        assert_eq!(
            watch.after_success(NOW, Some(minute)),
            Duration::from_secs(61)
        );
        for due in [None, Some(NOW + time::Duration::DAY)] {
            assert_eq!(watch.after_success(NOW, due), LONGEST);
        }
        assert_eq!(
            watch.after_success(NOW, Some(NOW - time::Duration::DAY)),
            SHORTEST
        );
    }

    #[test]
    fn pauses_after_failures_double_up_to_an_hour_and_begin_anew_after_a_success() {
        let mut watch = Watch::new();
        let pauses: Vec<u64> = (0..8).map(|_| watch.after_failure(0.0).as_secs()).collect();
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
        watch.after_success(NOW, None);
        assert_eq!(watch.after_failure(0.0), FIRST);
    }

    proptest! {
        #[test]
        fn no_pause_is_outside_its_bounds(
            failures in 0u32..200,
            random in 0.0f64..1.0,
            seconds in -1_000_000i64..1_000_000,
        ) {
            let mut watch = Watch { failures };
            let pause = watch.after_failure(random);
            prop_assert!(pause >= FIRST.mul_f64(0.75) && pause <= LONGEST);
            let due = NOW + time::Duration::seconds(seconds);
            let pause = watch.after_success(NOW, Some(due));
            prop_assert!(pause >= SHORTEST && pause <= LONGEST);
        }
    }
}
