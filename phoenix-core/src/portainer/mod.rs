//! The portainer room.
