//! Where an account is, and what a session of it uses.

use super::auth::Credentials;

/// How an account is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The account's identifier: `ORGANISATION-NAME`, or a locator with its region
    /// (<https://docs.snowflake.com/en/user-guide/admin-account-identifier>).
    pub account: String,
    /// Where the API is, if not at the account's own address: a private endpoint.
    pub base_url: Option<String>,
    /// The login.
    pub user: String,
    /// What proves who the user is.
    pub credentials: Credentials,
    /// The role that statements run as; the user's default one otherwise.
    pub role: Option<String>,
    /// The warehouse that queries run on; the user's default one otherwise.
    pub warehouse: Option<String>,
    /// The database.
    pub database: String,
    /// The schema that names without one mean.
    pub schema: Option<String>,
}

/// The host of an account. Snowflake takes `-` where an account's name has `_`: a host name may not
/// have one.
pub fn host(account: &str) -> String {
    let name = account.trim().to_ascii_lowercase().replace('_', "-");
    format!("{name}.snowflakecomputing.com")
}

impl Settings {
    /// The address that paths are put after.
    pub fn base(&self) -> String {
        match &self.base_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("https://{}", host(&self.account)),
        }
    }

    /// Whether nobody on the way can read what is sent: over TLS, or to this machine itself.
    pub fn is_private(&self) -> bool {
        let base = self.base();
        let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
        let is_local = |host: &&str| {
            base.strip_prefix(host)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
        };
        base.starts_with("https://") || local.iter().any(is_local)
    }

    /// Which database of which account this is, for people.
    pub fn place(&self) -> String {
        format!("{} in account {}", self.database, self.account)
    }
}

#[cfg(test)]
mod tests {
    use super::super::auth::Secret;
    use super::*;

    #[test]
    fn a_token_goes_to_nobody_else() {
        let at = |url: &str| Settings {
            account: "a-b".to_owned(),
            base_url: (!url.is_empty()).then(|| url.to_owned()),
            user: "ANA".to_owned(),
            credentials: Credentials::OAuth(Secret::new("hunter2")),
            role: None,
            warehouse: None,
            database: "DB".to_owned(),
            schema: None,
        };
        for private in [
            "",
            "https://x.privatelink.snowflakecomputing.com/",
            "http://127.0.0.1:1",
        ] {
            assert!(at(private).is_private(), "{private}");
        }
        for open in [
            "http://example.com",
            "http://127.0.0.1.example.com",
            "ftp://x",
            "localhost",
        ] {
            assert!(!at(open).is_private(), "{open}");
        }
    }

    #[test]
    fn an_account_has_a_host() {
        assert_eq!(
            host("MYORG-My_Account"),
            "myorg-my-account.snowflakecomputing.com"
        );
        assert_eq!(
            host("xy12345.eu-west-1"),
            "xy12345.eu-west-1.snowflakecomputing.com"
        );
    }
}
