//! How far an export came: a small file in the state directory. Without it, everything is sent again.

use std::io;
use std::path::Path;

use chancery_model::Digest;

/// A place in the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The next entry to be sent.
    pub(super) next: u64,
    /// From where to read again what open sessions need.
    pub(super) from: u64,
    /// The hash of the last entry sent.
    pub(super) last: Option<Digest>,
}

/// The longest file that is read.
const BYTES_MAX: usize = 256;

impl Place {
    fn text(&self) -> String {
        let last = self.last.map(|last| last.to_string()).unwrap_or_default();
        format!("next {}\nfrom {}\nlast {last}\n", self.next, self.from)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
        let place = Self {
            next: field("next")?.parse().ok()?,
            from: field("from")?.parse().ok()?,
            last: Digest::from_hex(&field("last")?),
        };
        (place.text() == text && place.from <= place.next).then_some(place)
    }

    /// Replaces the file. If we crash in between, the old one is there: what it stands before is sent again.
    pub(super) async fn keep(&self, path: &Path) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            tokio::fs::create_dir_all(directory).await?;
        }
        let new = path.with_extension("new");
        tokio::fs::write(&new, self.text()).await?;
        tokio::fs::rename(&new, path).await
    }

    /// The place in the file; the beginning, if there is none.
    pub(super) async fn remembered(path: &Path) -> Result<Self, String> {
        let text = match tokio::fs::read(path).await {
            Ok(bytes) if bytes.len() <= BYTES_MAX => String::from_utf8(bytes).unwrap_or_default(),
            Ok(_) => String::new(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
        };
        Self::parse(&text).ok_or_else(|| format!("{} does not say how far an export came", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back_and_no_other_form_is_taken() {
        for place in [Place::default(), Place { next: 12, from: 3, last: Some(Digest([7; 32])) }] {
            assert_eq!(Place::parse(&place.text()), Some(place));
        }
        for text in
            ["", "next 1\nfrom 2\nlast \n", "next 1\nfrom 1\n", "next 01\nfrom 1\nlast \n", "next 1\nfrom 1\nlast x\n"]
        {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
