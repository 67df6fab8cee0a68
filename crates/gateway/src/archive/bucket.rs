//! An object store as an archive uses it: objects are created and read, never replaced or deleted.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chancery_model::Timestamp;
use chancery_store::{RecordingMark, RecordingPiece, recording_prefix};
use futures_util::StreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, Error, ObjectStore, ObjectStoreExt, PutMode, RetryConfig};

use super::http::Http;
use super::{ArchiveFault, ArchivePlace, ArchiveUrl};

/// The longest object: a bundle of the longest entries.
pub(super) const OBJECT_BYTES_MAX: u64 = 16 << 20;
/// Within one request; what fails for longer is tried again in the next round.
const RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);
/// What a store said, in a log.
const WORDS_MAX: usize = 300;
/// Where credentials come from. Nothing else of the environment changes how the archive is reached.
const CREDENTIALS: [&str; 10] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// One archive's objects.
#[derive(Clone)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// With a slash behind it, or empty.
    prefix: String,
}

impl Bucket {
    pub(super) fn open(place: &ArchivePlace) -> Result<Self, ArchiveFault> {
        match &place.url {
            ArchiveUrl::Directory(path) => {
                let store = LocalFileSystem::new_with_prefix(path)
                    .map_err(|_| ArchiveFault::Settings(format!("{} is not a directory", path.display())))?;
                Ok(Self::of(Arc::new(store.with_fsync(true)), ""))
            }
            ArchiveUrl::Bucket { bucket, prefix } => Ok(Self::of(Arc::new(s3(place, bucket)?), prefix)),
        }
    }

    pub(super) fn of(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self { store, prefix }
    }

    fn path(&self, key: &str) -> Path {
        Path::from(format!("{}{key}", self.prefix))
    }

    /// Creates an object. False: one is there, whatever it holds.
    pub(super) async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, ArchiveFault> {
        match self.store.put_opts(&self.path(key), bytes.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(said(&error)),
        }
    }

    /// Makes sure that an object is there with these bytes.
    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ArchiveFault> {
        if self.create(key, bytes.clone()).await? || self.there(key).await? == bytes {
            return Ok(());
        }
        Err(ArchiveFault::Conflict(key.to_owned()))
    }

    /// Makes sure that the bytes of a piece are there, or as many of them as an earlier round wrote. Returns how many are.
    pub(super) async fn piece(&self, piece: &RecordingPiece) -> Result<u64, ArchiveFault> {
        let key = piece.mark.key();
        if self.create(&key, piece.bytes.clone()).await? {
            return Ok(piece.bytes.len() as u64);
        }
        let there = self.there(&key).await?;
        let both = there.len().min(piece.bytes.len());
        if both > 0 && there.get(..both) == piece.bytes.get(..both) {
            return Ok(there.len() as u64);
        }
        Err(ArchiveFault::Conflict(key))
    }

    async fn there(&self, key: &str) -> Result<Bytes, ArchiveFault> {
        let there = self.get(key).await?;
        // It was there a moment ago: the next round will know more.
        there.map(|(bytes, _)| bytes).ok_or_else(|| ArchiveFault::Missing(key.to_owned()))
    }

    /// An object and when it was written, if it is there.
    pub(super) async fn get(&self, key: &str) -> Result<Option<(Bytes, Timestamp)>, ArchiveFault> {
        let result = match self.store.get(&self.path(key)).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            result => result.map_err(|error| said(&error))?,
        };
        let at = Timestamp(result.meta.last_modified.timestamp_micros());
        let (mut bytes, mut stream) = (BytesMut::new(), result.into_stream());
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| said(&error))?;
            if (bytes.len() + chunk.len()) as u64 > OBJECT_BYTES_MAX {
                return Err(ArchiveFault::Malformed(key.to_owned(), "it is too large".into()));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some((bytes.freeze(), at)))
    }

    /// The largest number below `bound` that names an object under `under`. Asks for a place in the list a few dozen times,
    /// however long the list is.
    pub(super) async fn largest(&self, under: &str, bound: u64) -> Result<Option<u64>, ArchiveFault> {
        let Some(mut found) = self.between(under, None, bound).await? else { return Ok(None) };
        let mut bound = bound;
        while bound - found > 1 {
            let middle = found + (bound - found) / 2;
            // What is asked for is above `middle - 1`, so that `middle` itself is among it.
            match self.between(under, Some(middle - 1), bound).await? {
                Some(larger) => found = larger,
                None => bound = middle,
            }
        }
        Ok(Some(found))
    }

    /// Some number above `above` and below `bound` that names an object under `under`.
    async fn between(&self, under: &str, above: Option<u64>, bound: u64) -> Result<Option<u64>, ArchiveFault> {
        let prefix = self.path(under);
        let mut list = match above {
            Some(above) => self.store.list_with_offset(Some(&prefix), &self.path(&format!("{under}/{above:020}"))),
            None => self.store.list(Some(&prefix)),
        };
        while let Some(object) = list.next().await {
            let object = object.map_err(|error| said(&error))?;
            let number = object.location.filename().and_then(|name| numbered(name, 20));
            match number {
                Some(number) if number < bound && above.is_none_or(|above| number > above) => return Ok(Some(number)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The recording files of which there are pieces, in order.
    pub(super) async fn recordings(&self) -> Result<Vec<u64>, ArchiveFault> {
        let list = self.store.list_with_delimiter(Some(&self.path("recordings"))).await;
        let list = list.map_err(|error| said(&error))?;
        let mut files: Vec<u64> =
            list.common_prefixes.iter().filter_map(|path| numbered(path.filename()?, 12)).collect();
        files.sort_unstable();
        Ok(files)
    }

    /// The pieces of a recording file and their lengths, in order.
    pub(super) async fn pieces(&self, file: u64) -> Result<Vec<(RecordingMark, u64)>, ArchiveFault> {
        let mut list = self.store.list(Some(&self.path(&recording_prefix(file))));
        let mut pieces = Vec::new();
        while let Some(object) = list.next().await {
            let object = object.map_err(|error| said(&error))?;
            if let Some(offset) = object.location.filename().and_then(|name| numbered(name, 12)) {
                pieces.push((RecordingMark { file, offset }, object.size));
            }
        }
        pieces.sort_unstable();
        Ok(pieces)
    }
}

/// A name of so many digits.
fn numbered(name: &str, digits: usize) -> Option<u64> {
    (name.len() == digits && name.bytes().all(|byte| byte.is_ascii_digit())).then(|| name.parse().ok())?
}

/// What a store answered, short enough for a log. Requests are signed in their headers, which no error shows.
fn said(error: &Error) -> ArchiveFault {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        source = cause.source();
    }
    ArchiveFault::Store(words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect())
}

fn s3(place: &ArchivePlace, bucket: &str) -> Result<impl ObjectStore, ArchiveFault> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        // A bucket with Object Lock takes no object without a checksum.
        .with_checksum_algorithm(Checksum::SHA256)
        .with_http_connector(Http::new(place)?)
        .with_retry(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: RETRIES,
            retry_timeout: RETRY_TIMEOUT,
        });
    let mut own = false;
    for name in CREDENTIALS {
        if let Ok(value) = std::env::var(name)
            && let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>()
            && !value.is_empty()
        {
            builder = builder.with_config(key, value);
            own = true;
        }
    }
    if let Some(endpoint) = &place.endpoint {
        // Without credentials the library would ask for those of a machine at AWS.
        if !own {
            let what = "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment";
            return Err(ArchiveFault::Settings(what.into()));
        }
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http:"));
    }
    if let Some(region) = &place.region {
        builder = builder.with_region(region);
    }
    builder.build().map_err(|error| ArchiveFault::Settings(error.to_string()))
}
