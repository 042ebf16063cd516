//! Mail, over a connection that is always encrypted.

use super::super::compose;
use super::super::config::{Email, Tls};
use super::{PATIENCE, SendError};
use crate::pipeline::dbt::connection::Secret;
use lettre::message::{Mailbox, MessageBuilder, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{
    Certificate, CertificateStore, Tls as Wanted, TlsParameters,
};
use lettre::{Message, SmtpTransport, Transport};
use std::path::Path;
use unship_core::notice::Notice;

pub fn send(
    email: &Email,
    password: Option<&Secret>,
    notice: &Notice,
    root: &Path,
) -> Result<(), SendError> {
    let message = message(email, notice)?;
    let mut tls =
        TlsParameters::builder(email.host.clone()).certificate_store(CertificateStore::Default);
    if let Some(ca) = &email.ca {
        let pem = std::fs::read(root.join(ca))
            .map_err(|e| SendError::later(format!("cannot read {}: {e}", ca.display())))?;
        let certificate = Certificate::from_pem(&pem)
            .map_err(|_| SendError::later(format!("{} is no certificate", ca.display())))?;
        tls = tls.add_root_certificate(certificate);
    }
    let tls = tls
        .build_rustls()
        .map_err(|e| SendError::never(format!("TLS cannot be set up: {e}")))?;
    let (wanted, usual) = match email.tls {
        Tls::StartTls => (Wanted::Required(tls), 587),
        Tls::Implicit => (Wanted::Wrapper(tls), 465),
    };
    // Its name only says that no TLS is chosen by itself; it is, in the next line.
    let mut transport = SmtpTransport::builder_dangerous(&email.host)
        .tls(wanted)
        .port(email.port.unwrap_or(usual))
        .timeout(Some(PATIENCE));
    if let (Some(user), Some(password)) = (&email.user, password) {
        let login = Credentials::new(user.clone(), password.reveal().to_owned());
        transport = transport.credentials(login);
    }
    match transport.build().send(&message) {
        Ok(_) => Ok(()),
        Err(e) if e.is_permanent() => Err(SendError::never(format!("refused: {e}"))),
        Err(e) if e.is_timeout() => Err(SendError::later(format!("no answer in time: {e}"))),
        Err(e) => Err(SendError::soon(e.to_string())),
    }
}

fn message(email: &Email, notice: &Notice) -> Result<Message, SendError> {
    let address = |text: &String| {
        text.parse::<Mailbox>()
            .map_err(|e| SendError::never(format!("{text} is no mail address: {e}")))
    };
    let mut builder: MessageBuilder = Message::builder()
        .from(address(&email.from)?)
        // The same notice has the same id, by which mailboxes know a second one.
        .message_id(Some(id(&notice.key)))
        // No line of another header can begin in a title.
        .subject(notice.message.title.replace(char::is_control, " "))
        .header(ContentType::TEXT_PLAIN);
    for to in &email.to {
        builder = builder.to(address(to)?);
    }
    if notice.incident.is_some() {
        let whole: Vec<_> = notice.key.splitn(4, '/').take(3).collect();
        let thread = id(&whole.join("/"));
        builder = builder.references(thread);
    }
    builder
        .body(compose::text(&notice.message))
        .map_err(|e| SendError::never(format!("the mail cannot be written: {e}")))
}

fn id(key: &str) -> String {
    let hash = blake3::hash(key.as_bytes()).to_hex();
    format!("<{}@unship.invalid>", hash.get(..32).unwrap_or_default())
}
