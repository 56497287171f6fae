//! The instant by which a wait must have ended. Nothing in Phoenix waits without one.

use std::future::Future;
use std::time::{Duration, Instant};

/// An instant after which waiting stops. Cheap to copy and pass down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    at: Instant,
    allowed: Duration,
}

/// A deadline passed before what was waited for happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not done within {}", humantime::format_duration(round(*.allowed)))]
#[non_exhaustive]
pub struct Elapsed {
    /// How long had been allowed.
    pub allowed: Duration,
}

fn round(allowed: Duration) -> Duration {
    Duration::from_millis(allowed.as_millis().try_into().unwrap_or(u64::MAX))
}

impl Deadline {
    /// A deadline `allowed` from now.
    #[must_use]
    pub fn after(allowed: Duration) -> Self {
        Self {
            at: Instant::now() + allowed,
            allowed,
        }
    }

    /// The earlier of this deadline and one `allowed` from now.
    #[must_use]
    pub fn at_most(self, allowed: Duration) -> Self {
        let other = Self::after(allowed);
        if other.at < self.at { other } else { self }
    }

    /// This deadline, or one `allowed` from now if that is later.
    #[must_use]
    pub fn at_least(self, allowed: Duration) -> Self {
        let other = Self::after(allowed);
        if other.at > self.at { other } else { self }
    }

    /// The time left; zero once passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// How long had been allowed when the deadline was made.
    #[must_use]
    pub fn allowed(self) -> Duration {
        self.allowed
    }

    /// Whether it has passed.
    #[must_use]
    pub fn is_over(self) -> bool {
        self.remaining().is_zero()
    }

    /// Runs `work` until the deadline.
    ///
    /// # Errors
    /// [`Elapsed`] when the deadline passes first; `work` is dropped then.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        tokio::time::timeout_at(self.at.into(), work)
            .await
            .map_err(|_| self.elapsed())
    }

    /// Sleeps for `pause`, or reports that the deadline would pass first.
    ///
    /// # Errors
    /// [`Elapsed`] when less than `pause` was left; the rest of the time is slept first.
    pub async fn pause(self, pause: Duration) -> Result<(), Elapsed> {
        let left = self.remaining();
        if left < pause {
            tokio::time::sleep(left).await;
            return Err(self.elapsed());
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// The error that says this deadline has passed.
    #[must_use]
    pub fn elapsed(self) -> Elapsed {
        Elapsed {
            allowed: self.allowed,
        }
    }
}
