//! What was built: the version of a package as the lock file fixes it.

/// The version of `package`, if it is one of those that were built.
pub fn of(package: &str) -> Option<&'static str> {
    let wanted = format!("name = \"{package}\"");
    let mut lines = include_str!("../Cargo.lock").lines().skip_while(|line| *line != wanted);
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}
