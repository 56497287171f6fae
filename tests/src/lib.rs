//! A lab of real Docker engines and guest agents behind a Proxmox API.
