//! What the benchmarks of `phoenix-core` share.
