//! Who asks: a bearer token, or client credentials that one is bought with.

use super::error::RestError;
use super::send::{self, Answer, Sent};
use super::shapes::Token;
use std::fmt;
use std::time::{Duration, Instant};
use ureq::Agent;

/// How long before its end a token is replaced.
const MARGIN: Duration = Duration::from_secs(60);

/// A token's life where the server does not say it (as Iceberg's own client assumes).
const LIFE: u64 = 3600;

/// How a catalog is logged in to. It shows nothing of itself.
#[derive(Clone)]
pub enum Login {
    /// Nothing is asked for.
    None,
    /// A bearer token, as it is.
    Token(String),
    /// OAuth2 client credentials.
    Credential {
        /// The client's name.
        id: String,
        /// Its secret.
        secret: String,
        /// Where tokens are had.
        server: String,
        /// What the token shall be good for.
        scope: String,
    },
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Token(_) => "token",
            Self::Credential { .. } => "credential",
        })
    }
}

/// A login at work.
pub struct Bearer {
    login: Login,
    /// The token that was bought last, and until when it holds.
    bought: Option<(String, Instant)>,
}

impl Bearer {
    /// Nothing is asked for yet.
    pub fn new(login: Login) -> Self {
        Self {
            login,
            bought: None,
        }
    }

    /// The token to send now, bought anew where the last one ends.
    pub fn token(&mut self, agent: &Agent) -> Result<Option<String>, RestError> {
        let (id, secret, server, scope) = match &self.login {
            Login::None => return Ok(None),
            Login::Token(token) => return Ok(Some(token.clone())),
            Login::Credential {
                id,
                secret,
                server,
                scope,
            } => (id, secret, server, scope),
        };
        if let Some((token, until)) = &self.bought
            && Instant::now() < *until
        {
            return Ok(Some(token.clone()));
        }
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_secret", secret),
            ("scope", scope),
        ];
        let answer = send::patiently(|| {
            match agent.post(server).send_form(form) {
                // Buying a second token hurts nobody.
                Err(error) => Sent::Again(RestError::NotReached(send::words(&error)), None),
                Ok(response) => match send::read(response) {
                    Err(error) => Sent::Again(error, None),
                    Ok(answer) => answer.overloaded().unwrap_or(Sent::Done(answer)),
                },
            }
        })?;
        let token: Token = match answer {
            Answer {
                status: 200, body, ..
            } => serde_json::from_slice(&body)
                .map_err(|_| RestError::Nonsense("the login server gives no token".to_owned()))?,
            // What it says may repeat what was sent.
            Answer { status, .. } => {
                return Err(RestError::Login(format!(
                    "the login server answered with HTTP status {status}"
                )));
            }
        };
        let life = Duration::from_secs(token.expires_in.unwrap_or(LIFE));
        let until = Instant::now() + life.saturating_sub(MARGIN.min(life / 2));
        self.bought = Some((token.access_token.clone(), until));
        Ok(Some(token.access_token))
    }

    /// Forgets a token that the catalog does not take. Whether another can be had: many requests are
    /// under way with the same one, and by the time that one of them is refused another may have
    /// bought the next.
    pub fn refused(&mut self, used: Option<&str>) -> bool {
        let can_buy = matches!(self.login, Login::Credential { .. });
        if self.bought.as_ref().map(|(token, _)| token.as_str()) == used {
            self.bought = None;
        }
        can_buy
    }

    /// The text without anything secret.
    pub fn masked(&self, text: &str) -> String {
        let mut out = text.to_owned();
        let own = match &self.login {
            Login::None => None,
            Login::Token(token) => Some(token),
            Login::Credential { secret, .. } => Some(secret),
        };
        let bought = self.bought.as_ref().map(|(token, _)| token);
        for secret in own.into_iter().chain(bought).filter(|s| !s.is_empty()) {
            out = out.replace(secret.as_str(), "***");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thirty-two requests are under way when a token ends. Each is refused, and each may go on.
    #[test]
    fn a_token_that_many_used_is_replaced_once() {
        let mut bearer = Bearer::new(Login::Credential {
            id: "unship".to_owned(),
            secret: "s".to_owned(),
            server: String::new(),
            scope: String::new(),
        });
        let until = Instant::now() + MARGIN;
        bearer.bought = Some(("old".to_owned(), until));
        assert!(bearer.refused(Some("old")));
        assert!(bearer.refused(Some("old")), "the next one is being bought");
        bearer.bought = Some(("new".to_owned(), until));
        assert!(bearer.refused(Some("old")));
        assert!(bearer.bought.is_some(), "the new one was not refused");
        let mut fixed = Bearer::new(Login::Token("t".to_owned()));
        assert!(!fixed.refused(Some("t")), "there is no other");
    }
}
