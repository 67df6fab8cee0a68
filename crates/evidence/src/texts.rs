//! Files of a pack that are the same in every pack.

/// `README.txt`: how to check a pack in three ways.
pub const README: &str = include_str!("../texts/README.txt");

/// `cuec.md`: what whoever runs the gateway has to do besides (complementary user entity controls).
pub const CUEC: &str = include_str!("../texts/cuec.md");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CONTROLS, Population};

    #[test]
    fn what_they_name_is_there() {
        for id in CUEC.split('`').skip(1).step_by(2).filter(|word| word.starts_with("no-") || word.starts_with("clock"))
        {
            assert!(CONTROLS.iter().any(|control| control.id == id), "{id}");
        }
        let ids: Vec<&str> = Population::ALL.into_iter().map(|one| one.about().id).collect();
        let named = CUEC.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| {
            word.len() == 3 && word.starts_with('P') && word[1..].bytes().all(|digit| digit.is_ascii_digit())
        });
        for id in named {
            assert!(ids.contains(&id), "{id}");
        }
    }

    #[test]
    fn a_terminal_can_show_the_readme() {
        assert!(README.is_ascii());
        assert!(README.lines().all(|line| line.len() <= 80));
    }
}
