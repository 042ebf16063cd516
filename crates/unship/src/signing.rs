//! Signing approvals, and proving signatures, as git does it: by OpenSSH's own `ssh-keygen`. It
//! knows agents, passphrases, security keys and certificates, and reads `allowed_signers` itself.

use crate::config;
use crate::context::Context;
use crate::error::{CliError, CliResult, io_error, system_error};
use crate::git;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::NamedTempFile;
use unship_core::approve::{Approval, NAMESPACE, Proof};

/// Keys that OpenSSH makes by default, the best first.
const KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// The `ssh-keygen` of the machine, and whose keys are allowed.
pub struct Signing {
    keygen: PathBuf,
    allowed: PathBuf,
}

impl Signing {
    /// What the project's configuration says.
    pub fn of(context: &Context) -> CliResult<Self> {
        let keygen = which::which("ssh-keygen").map_err(|_| {
            CliError::failed("there is no ssh-keygen on the PATH, which signs and proves approvals")
                .hint("install OpenSSH's client (Debian and Ubuntu: openssh-client)")
        })?;
        let allowed = context
            .root
            .join(&context.config.signatures.allowed_signers);
        if !allowed.is_file() {
            return Err(CliError::usage(format!(
                "there is no {}, which says whose signatures count",
                allowed.display()
            ))
            .hint(format!(
                "write a line for each person: NAME namespaces=\"{NAMESPACE}\" PUBLIC-KEY; \
                 signatures.allowed_signers in {} names another file",
                config::FILE
            )));
        }
        Ok(Self { keygen, allowed })
    }

    /// Signs a text. A passphrase is asked for at the terminal.
    pub fn sign(&self, key: &Key, text: &str) -> CliResult<String> {
        let mut sign = Command::new(&self.keygen);
        sign.args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"])
            .arg(key.path())
            .stderr(Stdio::inherit());
        let output = feed(&mut sign, text)?;
        let signature = String::from_utf8(output.stdout).unwrap_or_default();
        if !output.status.success() || signature.is_empty() {
            return Err(
                CliError::failed(format!("ssh-keygen did not sign with {}", key.name()))
                    .hint("it says above why not; `--key FILE` names another key"),
            );
        }
        Ok(signature)
    }

    /// What an approval's signature proves now.
    pub fn prove(&self, approval: &Approval) -> CliResult<Proof> {
        let Ok(text) = approval.statement.text() else {
            return Ok(Proof::Altered);
        };
        let signature = temporary("approval.sig", &approval.signature)?;
        let mut verify = self.quietly(&["-Y", "verify", "-n", NAMESPACE]);
        verify.arg("-f").arg(&self.allowed);
        verify.arg("-I").arg(&approval.statement.signer);
        verify.arg("-s").arg(signature.path());
        if feed(&mut verify, &text)?.status.success() {
            return Ok(Proof::Good);
        }
        let mut fits = self.quietly(&["-Y", "check-novalidate", "-n", NAMESPACE]);
        fits.arg("-s").arg(signature.path());
        Ok(match feed(&mut fits, &text)?.status.success() {
            true => Proof::UnknownKey,
            false => Proof::Altered,
        })
    }

    fn quietly(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.keygen);
        command.args(args).stderr(Stdio::null());
        command
    }
}

/// The name that a person signs by, unless another is given: the e-mail address that their commits
/// have.
pub fn signer(root: &Path) -> Option<String> {
    git::setting(root, "user.email")
}

/// The key that a person signs with: a file, or a public key whose private one the agent has.
pub enum Key {
    /// A file.
    File(PathBuf),
    /// A public key, in a file of our own.
    Agent(NamedTempFile),
}

impl Key {
    /// The key that is named; else the one that git signs with; else a default one of OpenSSH's;
    /// else the agent's first.
    pub fn find(named: Option<&Path>, root: &Path) -> CliResult<Self> {
        if let Some(path) = named {
            return Ok(Self::File(path.to_owned()));
        }
        let ssh = git::setting(root, "gpg.format").as_deref() == Some("ssh");
        if let Some(key) = git::setting(root, "user.signingkey").filter(|_| ssh) {
            let literal = key.strip_prefix("key::");
            return match literal.or_else(|| key.starts_with("ssh-").then_some(&key)) {
                Some(public) => temporary("key.pub", public).map(Self::Agent),
                None => Ok(Self::File(at_home(&key))),
            };
        }
        let files = KEYS.map(|name| at_home(&format!("~/.ssh/{name}")));
        if let Some(path) = files.into_iter().find(|path| path.is_file()) {
            return Ok(Self::File(path));
        }
        let agent = Command::new("ssh-add")
            .arg("-L")
            .stderr(Stdio::null())
            .output();
        let listed = agent.ok().filter(|output| output.status.success());
        let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        match listed.as_deref().and_then(|list| list.lines().next()) {
            Some(public) => temporary("key.pub", public).map(Self::Agent),
            None => Err(CliError::usage("there is no SSH key to sign with")
                .hint("`--key FILE` names one; `ssh-keygen -t ed25519` makes one")),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Agent(file) => file.path(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Agent(_) => "the key that the SSH agent has".to_owned(),
        }
    }
}

fn at_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(path),
    }
}

fn temporary(suffix: &str, text: &str) -> CliResult<NamedTempFile> {
    let cannot = system_error("write a temporary file");
    let mut file = tempfile::Builder::new()
        .prefix("unship-")
        .suffix(&format!("-{suffix}"))
        .tempfile()
        .map_err(cannot)?;
    let path = file.path().to_owned();
    file.write_all(text.trim_end().as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.flush())
        .map_err(io_error("write", &path))?;
    Ok(file)
}

fn feed(command: &mut Command, text: &str) -> CliResult<Output> {
    let mut run = || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may refuse before it has read: then its exit code says so.
            let _ = stdin.write_all(text.as_bytes());
        }
        child.wait_with_output()
    };
    run().map_err(system_error("run ssh-keygen"))
}
