//! Nothing of its own: a package is what can depend on others.
