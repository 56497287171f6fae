//! A YAML (or JSON) document as a tree that keeps positions.
