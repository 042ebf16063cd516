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

    /// Which database of which account this is, for people.
    pub fn place(&self) -> String {
        format!("{} in account {}", self.database, self.account)
    }
}

#[cfg(test)]
mod tests {
    use super::host;

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
