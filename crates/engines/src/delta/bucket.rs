//! Directories of object stores: S3 and what speaks its protocol, Azure, Google Cloud Storage.
//!
//! Credentials are those that `object_store` finds in the environment; none are kept here. What an
//! error says of a request is said without its query, where signatures stand.

use super::lake::LOG;
use super::threads::run;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::StreamExt;
use futures::stream;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{
    Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, Result as Stored,
    RetryConfig,
};
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use unship_core::engine::{EngineError, ErrorKind};
use url::Url;

/// How many requests are under way at once.
const AT_ONCE: usize = 32;

/// For how long a request is made again that the store could not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where credentials are looked for.
const CREDENTIALS: &str = "credentials come from the environment, as the store's own tools read \
                           them: AWS_…, AZURE_… or GOOGLE_…; docs/src/delta.md lists them";

/// An object store.
struct Bucket {
    /// Its URL, without a path.
    url: Url,
    store: Arc<dyn ObjectStore>,
    /// What files were told by that were listed last.
    stamps: Mutex<BTreeMap<Key, String>>,
    /// Set when it was seen to keep a writer out where another was faster.
    keeps_out: OnceLock<()>,
}

/// A directory of an object store.
#[derive(Clone)]
pub struct Prefix {
    bucket: Arc<Bucket>,
    /// Names with slashes in between; empty for the store as a whole.
    path: String,
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket.url, self.path)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a store said, without what must not be shown.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

impl Said {
    fn of(error: &dyn std::error::Error) -> Self {
        let chain = unship_core::execute::chain(error);
        // The stores answer in XML, of which two members are for people.
        let member = |name: &str| {
            let (_, rest) = chain.split_once(&format!("<{name}>"))?;
            Some(rest.split_once(&format!("</{name}>"))?.0)
        };
        let text = match (member("Code"), member("Message")) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            _ => chain,
        };
        let without_query = |word: &str| match word.split_once('?') {
            Some((before, _)) if before.contains("://") => format!("{before}?…"),
            _ => word.to_owned(),
        };
        let words: Vec<_> = text.split_whitespace().map(without_query).collect();
        Self(words.join(" "))
    }
}

/// What sort of error a store's is.
fn kind(error: &Error) -> ErrorKind {
    match error {
        Error::NotFound { .. } => ErrorKind::Missing,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => ErrorKind::Permission,
        Error::AlreadyExists { .. } | Error::Precondition { .. } => ErrorKind::Conflict,
        Error::NotSupported { .. } | Error::NotImplemented { .. } | Error::InvalidPath { .. } => {
            ErrorKind::Unsupported
        }
        _ => ErrorKind::Io,
    }
}

/// An error that has one of a store among its causes, told with nothing secret; `None` if it has none.
pub fn told(text: &str, error: &(dyn std::error::Error + 'static)) -> Option<EngineError> {
    let mut cause = Some(error);
    while let Some(one) = cause {
        if let Some(stored) = one.downcast_ref::<Error>() {
            let kind = kind(stored);
            let told = EngineError::new(kind, text).because(Said::of(error));
            return Some(match kind {
                ErrorKind::Permission => told.hint(CREDENTIALS),
                _ => told,
            });
        }
        cause = one.source();
    }
    None
}

/// Whether a request may have been carried out although nobody answered it. What a library calls
/// unsent may have been sent, too: a server hung up on it.
pub fn unanswered(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(one) = cause {
        if one.is::<object_store::client::HttpError>() {
            return true;
        }
        cause = one.source();
    }
    false
}

fn failed(text: String, error: Error) -> EngineError {
    match told(&text, &error) {
        Some(told) => told,
        None => EngineError::new(ErrorKind::Io, text),
    }
}

fn stamp(meta: &ObjectMeta) -> String {
    let at = meta.last_modified.timestamp_micros();
    format!("{} {at} {}", meta.size, meta.e_tag.as_deref().unwrap_or(""))
}

/// A scheme, where several mean the same store.
fn family(scheme: &str) -> &str {
    match scheme {
        "s3" | "s3a" => "s3",
        "az" | "abfs" | "abfss" => "az",
        other => other,
    }
}

impl Prefix {
    /// Opens what a URL names.
    pub fn open(text: &str) -> Result<Self, EngineError> {
        let url = parse(text)?;
        let retry = RetryConfig {
            retry_timeout: PATIENCE,
            ..RetryConfig::default()
        };
        let built: Stored<Arc<dyn ObjectStore>> = match family(url.scheme()) {
            "s3" => {
                agreed_on_elsewhere()?;
                let builder = AmazonS3Builder::from_env().with_url(url.as_str());
                builder.with_retry(retry).build().map(|s| Arc::new(s) as _)
            }
            "az" => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str());
                builder.with_retry(retry).build().map(|s| Arc::new(s) as _)
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str());
                builder.with_retry(retry).build().map(|s| Arc::new(s) as _)
            }
            other => {
                let text = format!("no object store is known for {other}://");
                return Err(EngineError::new(ErrorKind::Unsupported, text)
                    .hint("s3://, s3a://, gs://, az://, abfs:// and abfss:// are"));
            }
        };
        let store = built.map_err(|e| {
            EngineError::new(ErrorKind::Unsupported, format!("cannot open {text}"))
                .because(Said::of(&e))
                .hint(CREDENTIALS)
        })?;
        Self::of(&url, store)
    }

    /// What a URL names, in a store that is open.
    pub fn within(text: &str, store: Arc<dyn ObjectStore>) -> Result<Self, EngineError> {
        Self::of(&parse(text)?, store)
    }

    fn of(url: &Url, store: Arc<dyn ObjectStore>) -> Result<Self, EngineError> {
        let path = percent_decode_str(url.path()).decode_utf8().map_err(|e| {
            EngineError::new(ErrorKind::Unsupported, format!("{url} is no text")).because(e)
        })?;
        let mut bucket = url.clone();
        bucket.set_path("");
        Ok(Self {
            path: path.trim_matches('/').to_owned(),
            bucket: Arc::new(Bucket {
                url: bucket,
                store,
                stamps: Mutex::default(),
                keeps_out: OnceLock::new(),
            }),
        })
    }

    /// A directory below.
    pub fn join(&self, below: &str) -> Self {
        let path = match (self.path.is_empty(), below.is_empty()) {
            (_, true) => self.path.clone(),
            (true, _) => below.to_owned(),
            (false, false) => format!("{}/{below}", self.path),
        };
        Self {
            bucket: Arc::clone(&self.bucket),
            path,
        }
    }

    /// The key of a file below; of the directory itself for no name.
    pub fn key(&self, name: &str) -> Result<Key, EngineError> {
        let below = self.join(name);
        Key::parse(&below.path).map_err(|e| {
            let text = format!("{below} cannot be the name of an object");
            EngineError::new(ErrorKind::Unsupported, text).because(e)
        })
    }

    /// The key that a URL names; `None` if it is of another store.
    pub fn at(&self, url: &Url) -> Option<Key> {
        let own = &self.bucket.url;
        let same = family(own.scheme()) == family(url.scheme())
            && (own.username(), own.host_str()) == (url.username(), url.host_str());
        match same {
            true => Key::from_url_path(url.path()).ok(),
            false => None,
        }
    }

    fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.bucket.store)
    }

    fn stamps(&self) -> MutexGuard<'_, BTreeMap<Key, String>> {
        let locked = self.bucket.stamps.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`super::dir::Dir::names`].
    pub fn names(&self) -> Result<Option<Vec<String>>, EngineError> {
        let (key, store) = (self.key("")?, self.store());
        let doing = format!("look into {self}");
        let list = async move { store.list_with_delimiter(Some(&key)).await };
        let listed = match run(&doing, list)? {
            Ok(listed) => listed,
            Err(e) => return Err(failed(format!("cannot {doing}"), e)),
        };
        let mut out = Vec::new();
        let mut stamps = self.stamps();
        for meta in &listed.objects {
            stamps.insert(meta.location.clone(), stamp(meta));
            out.extend(meta.location.filename().map(str::to_owned));
        }
        let below = listed.common_prefixes.iter().filter_map(Key::filename);
        out.extend(below.map(str::to_owned));
        Ok((!out.is_empty()).then_some(out))
    }

    /// What files below say; `None` for one that is not there.
    pub fn read(&self, names: Vec<String>) -> Result<Vec<Option<String>>, EngineError> {
        let keys: Result<Vec<_>, _> = names.iter().map(|name| self.key(name)).collect();
        let (keys, store) = (keys?, self.store());
        let doing = format!(
            "read {}",
            self.join(names.first().map_or("", String::as_str))
        );
        let read = async move {
            let one = |key: Key| {
                let store = Arc::clone(&store);
                async move {
                    match store.get(&key).await {
                        Ok(got) => got.bytes().await.map(Some),
                        Err(Error::NotFound { .. }) => Ok(None),
                        Err(e) => Err(e),
                    }
                }
            };
            let all = stream::iter(keys).map(one).buffered(AT_ONCE);
            all.collect::<Vec<_>>().await
        };
        let mut out = Vec::new();
        for got in run(&doing, read)? {
            let got = got.map_err(|e| failed(format!("cannot {doing}"), e))?;
            out.push(match got {
                None => None,
                Some(bytes) => Some(String::from_utf8(bytes.to_vec()).map_err(|e| {
                    EngineError::new(ErrorKind::Corrupt, format!("{self} holds no text")).because(e)
                })?),
            });
        }
        Ok(out)
    }

    /// See [`super::dir::Dir::stamp`].
    pub fn stamp(&self, name: &str) -> String {
        let Ok(key) = self.key(name) else {
            return String::new();
        };
        if let Some(stamp) = self.stamps().get(&key) {
            return stamp.clone();
        }
        let store = self.store();
        let head = run("look at a commit", async move { store.head(&key).await });
        match head {
            Ok(Ok(meta)) => stamp(&meta),
            _ => String::new(),
        }
    }

    /// Which of these are not there.
    pub fn gone(&self, keys: Vec<Key>) -> Result<Vec<Key>, EngineError> {
        let store = self.store();
        let doing = format!("look at the files of {self}");
        let look = async move {
            let one = |key: Key| {
                let store = Arc::clone(&store);
                async move {
                    match store.head(&key).await {
                        Ok(_) => Ok(None),
                        Err(Error::NotFound { .. }) => Ok(Some(key)),
                        Err(e) => Err(e),
                    }
                }
            };
            let all = stream::iter(keys).map(one).buffered(AT_ONCE);
            all.collect::<Vec<_>>().await
        };
        let mut out = Vec::new();
        for looked in run(&doing, look)? {
            out.extend(looked.map_err(|e| failed(format!("cannot {doing}"), e))?);
        }
        Ok(out)
    }

    /// The directories that hold a log, in these ones and below: none where nobody has written yet,
    /// which a store cannot tell from a place that is not there. `passed` says of a name that what has
    /// it is not looked into.
    pub fn tables(
        &self,
        starts: Vec<Vec<String>>,
        passed: fn(&str) -> bool,
    ) -> Result<Vec<Vec<String>>, EngineError> {
        let doing = format!("look into {self}");
        let (mut open, mut out) = (starts, Vec::new());
        while !open.is_empty() {
            let (base, store) = (self.clone(), self.store());
            let level = std::mem::take(&mut open);
            let looked = run(&doing, async move {
                let one = |parts: Vec<String>| {
                    let (dir, store) = (base.join(&parts.join("/")), Arc::clone(&store));
                    async move { look(&dir, store.as_ref()).await.map(|below| (parts, below)) }
                };
                let all = stream::iter(level).map(one).buffered(AT_ONCE);
                all.collect::<Vec<_>>().await
            })?;
            for one in looked {
                let (parts, below) = one.map_err(|e| failed(format!("cannot {doing}"), e))?;
                let Some(names) = below else {
                    out.push(parts);
                    continue;
                };
                for name in names.into_iter().filter(|name| !passed(name)) {
                    let mut below = parts.clone();
                    below.push(name);
                    open.push(below);
                }
            }
        }
        Ok(out)
    }

    /// The library's own way to the table that lies here.
    pub fn logs(&self) -> Result<LogStoreRef, EngineError> {
        let mut url = self.bucket.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(self.path.split('/')).push("");
        }
        let own = Arc::new(PrefixStore::new(self.store(), self.key("")?));
        let all = StorageConfig::default();
        Ok(default_logstore(own, self.store(), &url, &all))
    }

    /// Proves that the store refuses to write a file that is there, which every commit relies on: a
    /// commit of the table's is written once more, with the very same words. Once for each store.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a store that would let one writer overwrite another's commit;
    /// [`ErrorKind::Permission`], if nothing may be written.
    pub fn keeps_out(&self, name: &str) -> Result<(), EngineError> {
        if self.bucket.keeps_out.get().is_some() {
            return Ok(());
        }
        let (key, store) = (self.key(name)?, self.store());
        let doing = format!("write to {self}");
        let put = run(&doing, async move {
            let bytes = store.get(&key).await?.bytes().await?;
            let create = PutOptions::from(PutMode::Create);
            store.put_opts(&key, bytes.into(), create).await
        })?;
        match put {
            Err(Error::AlreadyExists { .. }) => {
                self.bucket.keeps_out.get_or_init(|| ());
                Ok(())
            }
            Ok(_) | Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                let text = format!(
                    "{} overwrites a file where it was told to make one only if there is none: a \
                     commit of unship's could overwrite somebody else's",
                    self.bucket.url
                );
                Err(EngineError::new(ErrorKind::Unsupported, text)
                    .hint("conditional writes (`If-None-Match`) are needed of an object store"))
            }
            Err(e) => Err(failed(format!("cannot {doing}"), e)),
        }
    }
}

/// What lies in a directory; `None` if that is a table.
async fn look(dir: &Prefix, store: &dyn ObjectStore) -> Stored<Option<Vec<String>>> {
    let key = |dir: &Prefix| Key::parse(&dir.path);
    let mut log = store.list(Some(&key(&dir.join(LOG))?));
    if let Some(first) = log.next().await {
        return first.map(|_| None);
    }
    let listed = store.list_with_delimiter(Some(&key(dir)?)).await?;
    let names = listed.common_prefixes.iter().filter_map(Key::filename);
    Ok(Some(names.map(str::to_owned).collect()))
}

fn parse(text: &str) -> Result<Url, EngineError> {
    let wrong = || {
        EngineError::new(
            ErrorKind::Unsupported,
            "`root` is no URL of an object store",
        )
    };
    let url = Url::parse(text).map_err(|e| wrong().because(e))?;
    match url.host_str().is_some() && url.query().is_none() && url.password().is_none() {
        true => Ok(url),
        false => Err(wrong().hint("a URL names a store and a path, and nothing else")),
    }
}

/// Refuses tables whose writers agree by another service about who commits: it would not know of a
/// commit that was put into the log beside it.
fn agreed_on_elsewhere() -> Result<(), EngineError> {
    match std::env::var("AWS_S3_LOCKING_PROVIDER") {
        Ok(provider) if !provider.is_empty() => Err(EngineError::new(
            ErrorKind::Unsupported,
            format!(
                "the writers of these tables agree through {provider} (AWS_S3_LOCKING_PROVIDER), \
                 which unship does not speak"
            ),
        )
        .hint("let them commit by conditional writes instead, which S3 has had since 2024")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn prefix(url: &str, names: &[&str]) -> Prefix {
        let store = Arc::new(InMemory::new());
        let put = Arc::clone(&store);
        let names: Vec<_> = names.iter().map(|n| Key::parse(n).unwrap()).collect();
        run("write", async move {
            for key in names {
                put.put(&key, "x".into()).await.unwrap();
            }
        })
        .unwrap();
        Prefix::within(url, store).unwrap()
    }

    #[test]
    fn names_and_files_are_those_below() {
        let lake = prefix(
            "s3a://bucket/my%20lake/",
            &[
                "my lake/a/é b%41.parquet",
                "my lake/a/_delta_log/1.json",
                "b/c",
            ],
        );
        assert_eq!(lake.to_string(), "s3a://bucket/my lake");
        let table = lake.join("a");
        assert_eq!(
            table.names().unwrap().unwrap(),
            ["é b%41.parquet", "_delta_log"]
        );
        assert_eq!(lake.join("nowhere").names().unwrap(), None);
        let log = table.join(LOG);
        let read = log.read(vec!["1.json".to_owned(), "2.json".to_owned()]);
        assert_eq!(read.unwrap(), [Some("x".to_owned()), None]);
        assert!(!log.stamp("1.json").is_empty());
        assert_eq!(log.stamp("2.json"), "");
        let (there, gone) = (table.key("é b%41.parquet"), table.key("gone"));
        let (there, gone) = (there.unwrap(), gone.unwrap());
        assert_eq!(table.gone(vec![there, gone.clone()]).unwrap(), [gone]);
        assert_eq!(
            table.logs().unwrap().config().location().as_str(),
            "s3a://bucket/my%20lake/a/"
        );
    }

    #[test]
    fn tables_are_found_by_their_logs() {
        let lake = prefix(
            "s3://bucket/lake",
            &[
                "lake/sales/orders/_delta_log/0.json",
                "lake/sales/orders/p=1/_delta_log/0.json",
                "lake/sales/eu/more/_delta_log/0.json",
                "lake/sales/.trash/old/_delta_log/0.json",
                "lake/sales/raw/file.csv",
            ],
        );
        let found = |starts| lake.tables(starts, |name| name.starts_with('.'));
        let mut all = found(vec![vec![]]).unwrap();
        all.sort();
        assert_eq!(all, [vec!["sales", "eu", "more"], vec!["sales", "orders"]]);
        assert!(found(vec![vec!["later".to_owned()]]).unwrap().is_empty());
    }

    #[test]
    fn a_uri_is_of_this_store_or_of_none() {
        let at = |own: &str, uri: &str| {
            let key = prefix(own, &[]).at(&Url::parse(uri).unwrap());
            key.map(|key| key.to_string())
        };
        assert_eq!(at("s3://b/x", "s3a://b/y/z%20a"), Some("y/z a".to_owned()));
        assert_eq!(at("s3://b/x", "s3://other/y"), None);
        assert_eq!(at("s3://b/x", "gs://b/y"), None);
        let azure = "abfss://c@account.dfs.core.windows.net/x";
        assert_eq!(at(azure, azure), Some("x".to_owned()));
        let other = "abfss://d@account.dfs.core.windows.net/x";
        assert_eq!(at(azure, other), None);
    }

    /// A commit stays the one that it is, and who would overwrite it is told.
    #[test]
    fn a_store_that_keeps_others_out_is_known_by_its_refusal() {
        let log = prefix("s3://bucket/t/_delta_log", &["t/_delta_log/0.json"]);
        log.keeps_out("0.json").unwrap();
        let read = log.read(vec!["0.json".to_owned()]).unwrap();
        assert_eq!(read, [Some("x".to_owned())]);
        log.keeps_out("not asked any more").unwrap();
    }

    #[test]
    fn what_a_store_says_is_said_without_its_signatures() {
        let says = |text: &str| {
            let error = std::io::Error::other(text.to_owned());
            Said::of(&error).to_string()
        };
        assert_eq!(
            says("GET https://a.blob.core.windows.net/c/k?sig=hush&se=1 in 3s - no"),
            "GET https://a.blob.core.windows.net/c/k?… in 3s - no"
        );
        assert_eq!(
            says(
                "403: <Error><Code>AccessDenied</Code><Message>Not you</Message>\
                 <AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>"
            ),
            "AccessDenied: Not you"
        );
    }

    #[test]
    fn what_is_no_url_of_a_store_is_refused_without_repeating_it() {
        for text in ["s3://u:hush@b/x", "s3://b/x?k=hush", "hush", "s3:hush"] {
            let error = Prefix::open(text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unsupported);
            let words = unship_core::execute::chain(&error);
            assert!(!words.contains("hush"), "{words}");
        }
        let error = Prefix::open("ftp://b/x").unwrap_err();
        assert!(error.message.contains("ftp://"), "{error}");
    }
}
