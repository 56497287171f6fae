//! What goes wrong, on real guests and engines, is told clearly, ends with the right exit code,
//! and leaves no more undone than it has to.

#[path = "failures/fixture.rs"]
mod fixture;
#[path = "failures/guests.rs"]
mod guests;
#[path = "failures/targets.rs"]
mod targets;

#[tokio::test(flavor = "multi_thread")]
async fn failures_in_guests() {
    guests::go().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_targets() {
    targets::go().await;
}
