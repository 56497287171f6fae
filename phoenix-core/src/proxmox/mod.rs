//! The proxmox room.
