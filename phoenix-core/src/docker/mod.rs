//! The docker room.
