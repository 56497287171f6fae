//! A process that may die between any two things that it does to the file system.
//!
//! What writes files calls [`step`] before each of them. In a test the process "dies" at the
//! n-th: that step and every later one, also those that would clear up, fails and does nothing,
//! as after SIGKILL. Elsewhere a step is nothing at all.

#[cfg(test)]
pub(crate) use counted::{step, with_steps};

/// Before something is done to the file system.
#[cfg(not(test))]
#[allow(clippy::unnecessary_wraps, reason = "in tests it may fail")]
pub(crate) fn step() -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod counted {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        /// The steps left to this thread; without end when absent.
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
        static DEAD: Cell<bool> = const { Cell::new(false) };
    }

    /// Does `work` with `steps` steps to live; whether it died comes with its result.
    pub(crate) fn with_steps<T>(steps: u32, work: impl FnOnce() -> T) -> (T, bool) {
        LEFT.set(Some(steps));
        let result = work();
        LEFT.set(None);
        (result, DEAD.replace(false))
    }

    pub(crate) fn step() -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => {
                DEAD.set(true);
                Err(io::Error::other("the process died here"))
            }
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}
