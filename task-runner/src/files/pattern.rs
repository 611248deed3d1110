use globset::{GlobBuilder, GlobMatcher};

use crate::failure::TaskFailure;

/// A pattern of paths below a connection's root: `*`, `?` and `[…]` stay within a part, `**` crosses parts.
#[derive(Debug)]
pub(super) struct Pattern {
    /// The parts before the first wildcard, joined; without a slash at either end, empty for the root.
    pub folder: String,
    /// How many parts a path that matches can have; `None` without limit.
    pub depth: Option<usize>,
    matcher: GlobMatcher,
    hidden: bool,
}

/// Whether a path has wildcards.
pub(super) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

impl Pattern {
    /// # Errors
    /// `InvalidPath` where it cannot be read, such as `[` without `]`.
    pub fn parse(pattern: &str) -> Result<Self, TaskFailure> {
        // Braces are letters here, as they are to DuckDB.
        let escaped: String = pattern
            .chars()
            .map(|letter| match letter {
                '{' => "[{]".to_owned(),
                '}' => "[}]".to_owned(),
                other => other.to_string(),
            })
            .collect();
        let glob = GlobBuilder::new(&escaped).literal_separator(true).backslash_escape(false).build();
        let matcher = glob
            .map_err(|error| {
                let message = format!("the pattern `{pattern}` cannot be read: {}", error.kind());
                TaskFailure::permanent("InvalidPath", message)
            })?
            .compile_matcher();
        let parts: Vec<&str> = pattern.split('/').collect();
        let literal = parts.iter().take(parts.len() - 1).take_while(|part| !is_pattern(part)).count();
        Ok(Self {
            folder: parts.get(..literal).unwrap_or_default().join("/"),
            depth: (!parts.contains(&"**")).then_some(parts.len()),
            matcher,
            hidden: parts.iter().any(|part| part.starts_with('.')),
        })
    }

    /// Whether a path below the root matches. Parts that begin with a dot (half-written files among them) match only a
    /// pattern that has such a part itself.
    pub fn matches(&self, path: &str) -> bool {
        (self.hidden || !path.split('/').any(|part| part.starts_with('.'))) && self.matcher.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn wildcards_stay_within_a_part_but_two_stars_cross_them() {
        for (pattern, path, expected) in [
            ("monthly/*.csv", "monthly/2024-01.csv", true),
            ("monthly/*.csv", "monthly/old/2024-01.csv", false),
            ("*/x.csv", "a/x.csv", true),
            ("*/x.csv", "x.csv", false),
            ("**/x.csv", "x.csv", true),
            ("**/x.csv", "a/b/x.csv", true),
            ("a/**", "a/b/c.csv", true),
            ("a/**/c.csv", "a/c.csv", true),
            ("202[45]-0?.csv", "2024-01.csv", true),
            ("202[!4]-0?.csv", "2024-01.csv", false),
            ("{a,b}*.csv", "a.csv", false),
            ("{a,b}*.csv", "{a,b}1.csv", true),
            ("*.CSV", "a.csv", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn hidden_files_match_only_where_the_pattern_says_so() {
        assert!(!matches("*", ".part"));
        assert!(!matches("**/*.csv", ".old/a.csv"));
        assert!(matches(".old/*.csv", ".old/a.csv"));
    }

    #[test]
    fn only_the_parts_before_the_first_wildcard_are_listed_below() {
        for (pattern, folder, depth) in [
            ("*.csv", "", Some(1)),
            ("a/b/*.csv", "a/b", Some(3)),
            ("a/b-*/c/x.csv", "a", Some(4)),
            ("a/**/x.csv", "a", None),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            assert_eq!((pattern.folder.as_str(), pattern.depth), (folder, depth));
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_refused() {
        let failure = Pattern::parse("a/[b.csv").unwrap_err();
        assert_eq!(failure.reason, "InvalidPath");
        assert!(failure.message.contains("`a/[b.csv`"), "{failure}");
    }
}
