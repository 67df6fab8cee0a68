//! Where an archive is, from the words of the configuration or of the command line.

use chancery_gateway::{ArchivePlace, ArchiveUrl};

use crate::oauth;

/// The place, or what is wrong and what to do about it. Without TLS only what is on loopback is reached, unless
/// `clear_text` says otherwise.
pub(crate) fn place(
    url: &str,
    endpoint: Option<&str>,
    region: Option<String>,
    ca_pem: Option<Vec<u8>>,
    clear_text: bool,
) -> Result<ArchivePlace, (String, &'static str)> {
    let hint = "s3://bucket/prefix, or file:///path for a mounted volume";
    let url = ArchiveUrl::parse(url).map_err(|why| (format!("`{url}` is no archive: {why}"), hint))?;
    match (&url, endpoint) {
        (ArchiveUrl::Directory(_), Some(_)) => {
            return Err(("a directory has no endpoint".into(), "remove `endpoint`, or write s3://bucket/prefix"));
        }
        (ArchiveUrl::Directory(path), None) if !path.is_dir() => {
            return Err((format!("{} is not a directory", path.display()), "is the volume mounted?"));
        }
        (ArchiveUrl::Bucket { .. }, Some(endpoint)) => {
            let http = clear_text && endpoint.starts_with("http://");
            let safe = if http { reqwest::Url::parse(endpoint).is_ok() } else { oauth::checked(endpoint).is_ok() };
            if !safe {
                let hint = "https://host:port, without a user name and a password";
                return Err(("the endpoint must be an https URL, or http on loopback".into(), hint));
            }
        }
        _ => {}
    }
    Ok(ArchivePlace { url, endpoint: endpoint.map(str::to_owned), region, ca_pem })
}

/// The region as AWS's own programs take it from the environment.
pub(crate) fn region_of_environment() -> Option<String> {
    ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| std::env::var(name).ok()).filter(|one| !one.is_empty())
}
