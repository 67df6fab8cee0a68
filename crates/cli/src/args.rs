//! The command line as plain data. Nothing is decided here, and no file is read.

mod origins;
mod remask;
mod retention;

use std::path::PathBuf;

use chancery_model::Timestamp;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use origins::Origins;
pub(crate) use remask::Remask;
pub(crate) use retention::{Hold, HoldLift, HoldList, HoldSet, Retention};

/// An access gateway that rules on every command, masks what comes back and keeps a record that can be verified.
#[derive(Debug, Parser)]
#[command(name = "chancery", version, propagate_version = true, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 yes, 1 no, 2 could not say, 64 bad usage.")]
pub(crate) struct Cli {
    /// Print JSON for machines instead of text for people.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a directory with a commented chancery.toml, example rules, keys and a new ledger.
    Init(Init),
    /// Validate configuration, rules, certificates and secrets without binding a port.
    Check(Config),
    /// Run the gateway in the foreground.
    Serve(Config),
    /// Play the whole story with a private PostgreSQL, a demo issuer and a gateway on loopback.
    Demo(Demo),
    /// Print a short-lived access token, usable as a password.
    Token(Token),
    /// Show who the gateway takes you for.
    Whoami(Remote),
    /// What may be reached.
    #[command(subcommand)]
    Resource(Resource),
    /// Run a command with the environment its native client needs, or print the line.
    Connect(Connect),
    /// Find, inspect and play back sessions (operator, on the gateway's host).
    #[command(subcommand)]
    Session(Session),
    /// The reviewer's inbox.
    #[command(subcommand)]
    Review(Review),
    /// Backend credentials, sealed and versioned (operator, on the gateway's host).
    #[command(subcommand)]
    Secret(Secret),
    /// Reviewers' public keys (operator, on the gateway's host).
    #[command(subcommand)]
    Reviewer(Reviewer),
    /// Validate and explain rules.
    #[command(subcommand)]
    Policy(Policy),
    /// The ledger's head, and its verification.
    #[command(subcommand)]
    Ledger(Ledger),
    /// Packs of evidence for an auditor: made on the gateway's host, verified anywhere.
    #[command(subcommand)]
    Evidence(Evidence),
    /// What of the ledger and its recordings is in the archive, and how to get it back from there.
    #[command(subcommand)]
    Archive(Archive),
    /// Delete what is past its time, or show what would be (operator, on the gateway's host).
    #[command(subcommand)]
    Retention(Retention),
    /// Legal holds: what is not to be deleted, whatever its age (operator, on the gateway's host).
    #[command(subcommand)]
    Hold(Hold),
    /// Watch logs from elsewhere: cosign each head that shows that its log only grew (C2SP tlog-witness).
    #[command(subcommand)]
    Witness(Witness),
    /// Keep a registry of logs: which there are, and how far each had come.
    #[command(subcommand)]
    Registry(Registry),
}

/// Where the configuration file is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Config {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "CHANCERY_CONFIG", default_value = "chancery.toml")]
    pub(crate) config: PathBuf,
}

/// How a client reaches the gateway's API.
#[derive(Clone, Debug, Args)]
pub(crate) struct Remote {
    /// The gateway's https address.
    #[arg(long, value_name = "URL", env = "CHANCERY_GATEWAY", default_value = "https://localhost:8443")]
    pub(crate) gateway: String,
    /// Certificates (PEM) that the gateway's TLS is checked against, instead of the system's.
    #[arg(long, value_name = "FILE", env = "CHANCERY_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// A file that holds the access token; without it, the variable CHANCERY_TOKEN.
    #[arg(long, value_name = "FILE", env = "CHANCERY_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The directory to make; it must be absent or empty.
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) directory: PathBuf,
    /// The gateway's name; part of its ledger's origin.
    #[arg(long, default_value = "gw-a")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Run the story once and exit 0 or 1, instead of staying up.
    #[arg(long, env = "ONESHOT", value_parser = clap::builder::FalseyValueParser::new(), num_args = 0..=1,
          default_missing_value = "true", default_value = "false", require_equals = true)]
    pub(crate) oneshot: bool,
    /// Keep the demo's files here instead of in a temporary directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The issuer's URL.
    #[arg(long, value_name = "URL", env = "CHANCERY_ISSUER")]
    pub(crate) issuer: String,
    /// Certificates (PEM) that the issuer's TLS is checked against, instead of the system's.
    #[arg(long, value_name = "FILE", env = "CHANCERY_ISSUER_CA")]
    pub(crate) issuer_ca: Option<PathBuf>,
    /// `client_id` at the issuer.
    #[arg(long, value_name = "ID", env = "CHANCERY_CLIENT_ID")]
    pub(crate) client_id: String,
    /// A file that holds `client_secret`; without it, the variable CHANCERY_CLIENT_SECRET.
    #[arg(long, value_name = "FILE")]
    pub(crate) client_secret_file: Option<PathBuf>,
    /// A file that holds the token of whom this client acts for: asks for one link more in its chain.
    #[arg(long, value_name = "FILE")]
    pub(crate) on_behalf_of: Option<PathBuf>,
    /// The audience, where the issuer wants it said.
    #[arg(long)]
    pub(crate) audience: Option<String>,
    /// Only this resource; may be given several times.
    #[arg(long = "resource", value_name = "R")]
    pub(crate) resources: Vec<String>,
    /// Only commands proven to only read.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// A shorter life, such as 15m.
    #[arg(long, value_name = "T", value_parser = crate::config::duration)]
    pub(crate) ttl: Option<std::time::Duration>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Resource {
    /// List the resources you may connect to, and how.
    List(Remote),
}

#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// The resource.
    #[arg(value_name = "R")]
    pub(crate) resource: String,
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The command to run; without one, the line to run is printed.
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// List sessions, newest first.
    List(SessionList),
    /// Show one session's facts and commands.
    Show(SessionShow),
    /// Play a session's recording as a transcript with tables.
    Replay(SessionReplay),
}

#[derive(Debug, Args)]
pub(crate) struct SessionList {
    #[command(flatten)]
    pub(crate) config: Config,
    /// Only sessions that are open.
    #[arg(long)]
    pub(crate) open: bool,
    /// Only sessions on this resource.
    #[arg(long, value_name = "R")]
    pub(crate) resource: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct SessionShow {
    /// The session's id.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Debug, Args)]
pub(crate) struct SessionReplay {
    /// The session's id.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) config: Config,
    /// Play in time, so many times faster than it happened; without it, everything is printed at once.
    #[arg(long, value_name = "FACTOR")]
    pub(crate) speed: Option<f64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Review {
    /// List the reviews that wait for you.
    List(Remote),
    /// Show one review with the complete command.
    Show(ReviewShow),
    /// Approve: signs the command's digest with an SSH key where the rule asks for it.
    Approve(ReviewApprove),
    /// Deny.
    Deny(ReviewDeny),
}

#[derive(Debug, Args)]
pub(crate) struct ReviewShow {
    /// The review's id.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Debug, Args)]
pub(crate) struct ReviewApprove {
    /// The review's id.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Which of the needed review rules to answer, where there is more than one.
    #[arg(long, value_name = "NAME")]
    pub(crate) rule: Option<String>,
    /// The SSH private key (or the public one of a key in the agent) to sign with.
    #[arg(long, value_name = "FILE", env = "CHANCERY_REVIEW_KEY")]
    pub(crate) key: Option<PathBuf>,
    /// Do not ask before approving.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReviewDeny {
    /// The review's id.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Which of the needed review rules to answer, where there is more than one.
    #[arg(long, value_name = "NAME")]
    pub(crate) rule: Option<String>,
    /// Why, for whoever asked.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Keep a credential's first version, or a new one.
    Set(SecretSet),
    /// Keep a new version of a credential and retire the one before it.
    Rotate(SecretSet),
    /// List names and versions, never values.
    List(Config),
}

#[derive(Debug, Args)]
pub(crate) struct SecretSet {
    /// The credential's name, as resources call it.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The role at the resource; `rotate` keeps the one it has.
    #[arg(long, visible_alias = "user", value_name = "U")]
    pub(crate) username: Option<String>,
    /// The file whose first line is the password; without it, a prompt or standard input.
    #[arg(long, value_name = "F")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Reviewer {
    /// Enrol an SSH public key for a reviewer.
    AddKey(AddKey),
    /// List enrolled keys.
    List(Config),
}

#[derive(Debug, Args)]
pub(crate) struct AddKey {
    /// The reviewer's subject at the issuer.
    #[arg(value_name = "SUB")]
    pub(crate) subject: String,
    /// The file with the public key line (`ssh-ed25519 AAAA…`), or `-` for standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The issuer's URL; may be left out where only one is configured.
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: Option<String>,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Parse and validate the rules.
    Check(Config),
    /// Say why a statement would be ruled so.
    Explain(Explain),
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) config: Config,
    /// Who asks: the subject, then its groups after commas.
    #[arg(long = "as", value_name = "SUB[,GROUP…]")]
    pub(crate) subject: String,
    /// What the principal is.
    #[arg(long, value_enum, default_value = "user")]
    pub(crate) kind: Kind,
    /// The issuer's URL; may be left out where only one is configured.
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: Option<String>,
    /// An agent that acts for the one before it; may be given several times, outermost first.
    #[arg(long = "actor", value_name = "SUB")]
    pub(crate) actors: Vec<String>,
    /// The resource.
    #[arg(long, value_name = "R")]
    pub(crate) resource: String,
    /// The schema of tables that the statement names without one.
    #[arg(long, value_name = "S", default_value = "public")]
    pub(crate) schema: String,
    /// The client's address.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) address: std::net::IpAddr,
    /// Suppose that this review approved it; may be given several times.
    #[arg(long = "review", value_name = "NAME")]
    pub(crate) reviews: Vec<String>,
    /// The statement; without it, the opening of a session.
    #[arg(value_name = "SQL")]
    pub(crate) sql: Option<String>,
}

/// What a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    User,
    Service,
    Agent,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Show the head and the size.
    Status(Config),
    /// Verify a live or copied ledger, with its recordings where they are.
    Verify(Verify),
    /// Write what the last checkpoint covers as plain files in the layout of C2SP tlog-tiles.
    Export(ExportLedger),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Evidence {
    /// Make a pack for a period: the ledger, recordings and what follows from them. Its making is recorded.
    Export(ExportPack),
    /// Verify a pack offline: nothing in it is believed.
    Verify(VerifyPack),
    /// Draw a sample from a population of a pack, which neither side can steer.
    Sample(Sample),
    /// Ask for a session's sealed originals, or hand them out under an approval (operator, on the gateway's host).
    Unseal(Unseal),
    /// Mask opened originals again and compare with the recording, offline.
    Remask(Remask),
    /// Destroy a session's sealed originals for good, for a legal reason (operator, on the gateway's host).
    Shred(Shred),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Unseal {
    #[command(subcommand)]
    pub(crate) request: Option<UnsealCommand>,
    /// The session.
    #[arg(value_name = "SESSION", required = true)]
    pub(crate) session: Option<String>,
    /// The approved review. It is used up.
    #[arg(long, value_name = "ID", required = true)]
    pub(crate) review: Option<String>,
    /// The directory to be made for the age files.
    #[arg(long, value_name = "DIR", required = true)]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UnsealCommand {
    /// Put a request before the reviewers, as yourself. You cannot approve it.
    Request(UnsealRequest),
}

#[derive(Debug, Args)]
pub(crate) struct UnsealRequest {
    /// The session.
    #[arg(value_name = "SESSION")]
    pub(crate) session: String,
    /// Why they are needed. Reviewers read it, and their signatures are over it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Debug, Args)]
pub(crate) struct Shred {
    /// The session. It must have ended, and no hold may keep it.
    #[arg(value_name = "SESSION")]
    pub(crate) session: String,
    /// On whose authority: the order or request that demands it. Its SHA-256 stands in the ledger.
    #[arg(long, value_name = "TEXT")]
    pub(crate) authority: String,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Debug, Args)]
pub(crate) struct ExportPack {
    /// The first day or instant of the period: 2026-01-01 or 2026-01-01T00:00:00Z.
    #[arg(long, value_name = "T", value_parser = crate::instant::instant)]
    pub(crate) from: Timestamp,
    /// The instant at which it ends; a day is meant from its beginning. Without it, the head of the ledger.
    #[arg(long, value_name = "T", value_parser = crate::instant::instant)]
    pub(crate) to: Option<Timestamp>,
    /// Only this control in the results; may be given several times. All populations are in the pack in any case.
    #[arg(long = "control", value_name = "ID")]
    pub(crate) controls: Vec<String>,
    /// The file to be made.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// The resource's own log, PostgreSQL's csvlog or jsonlog: who reached it past the gateway is an exception. No text of
    /// it goes into the pack. May be given several times, in order.
    #[arg(long = "postgres-log", value_name = "FILE")]
    pub(crate) postgres_logs: Vec<PathBuf>,
    /// The registry of all logs, or a copy of it, to lie in the pack. Without it packs do not tell that one is missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) registry: Option<PathBuf>,
    /// The page that verifies packs in a browser (`make browser`), to lie in the pack as verify.html.
    #[arg(long, value_name = "FILE")]
    pub(crate) page: Option<PathBuf>,
    /// Cut the pack into parts of at most so many bytes (95MB, 1GB): FILE.001, FILE.002, …
    #[arg(long, value_name = "SIZE", value_parser = crate::commands::evidence::size)]
    pub(crate) split: Option<u64>,
    /// The head to export up to, as a file with its note: that of an earlier pack gives the same pack again.
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyPack {
    /// The packs, one of each log: the file, the directory it was unpacked to, or the first of its parts.
    #[arg(value_name = "PACK", required = true)]
    pub(crate) packs: Vec<PathBuf>,
    /// The roots: the log's public key and that of its first epoch, or a file that holds them; may be repeated for several
    /// logs. Never those in the pack. Without them, those of the registry.
    #[arg(long, value_name = "FILE", required_unless_present = "registry_key")]
    pub(crate) roots: Vec<String>,
    #[command(flatten)]
    pub(crate) outside: Origins,
    /// Who the witnesses are and how many must have cosigned (C2SP tlog-policy).
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// A head of your own, from an earlier visit or a witness; may be given several times.
    #[arg(long = "checkpoint", value_name = "FILE")]
    pub(crate) checkpoints: Vec<PathBuf>,
    /// Say of each check what it means.
    #[arg(long)]
    pub(crate) explain: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Sample {
    /// The pack, the directory it was unpacked to, or the first of its parts. Verify it first.
    #[arg(value_name = "PACK")]
    pub(crate) pack: PathBuf,
    /// The population, such as P05.
    #[arg(long, value_name = "ID", default_value = "P05")]
    pub(crate) population: String,
    /// How many rows.
    #[arg(long, value_name = "N", default_value_t = 25)]
    pub(crate) count: usize,
    /// A text that the auditor chose after the pack was handed over.
    #[arg(long, value_name = "TEXT")]
    pub(crate) nonce: String,
}

#[derive(Debug, Args)]
pub(crate) struct ExportLedger {
    /// The directory to be made.
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// A state directory or a ledger directory; without it, that of the configuration.
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// State directories or ledger directories, one for each log; without any, that of the configuration.
    #[arg(value_name = "DIR")]
    pub(crate) directories: Vec<PathBuf>,
    /// The roots: a log's public key and that of its first epoch, or a file that holds them; may be repeated for several
    /// logs. Without them, those of the registry, else those of the state directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) roots: Vec<String>,
    /// The registry of all logs: whether each is there, and as long as it was.
    #[arg(long, value_name = "DIR", requires = "registry_key")]
    pub(crate) registry: Option<PathBuf>,
    /// The registry's public key, or a file that holds it.
    #[arg(long, value_name = "KEY", requires = "registry")]
    pub(crate) registry_key: Option<String>,
    /// Who must have cosigned the registry's head (C2SP tlog-policy). Without it that is not checked.
    #[arg(long, value_name = "FILE", requires = "registry")]
    pub(crate) registry_policy: Option<PathBuf>,
    /// The directory of recordings, where it is not beside the ledger.
    #[arg(long, value_name = "DIR")]
    pub(crate) recordings: Option<PathBuf>,
    /// Who the witnesses are and how many must have cosigned (C2SP tlog-policy). Without it their check is not made.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// A checkpoint that somebody else kept, a witness or an earlier auditor; may be repeated.
    #[arg(long = "checkpoint", value_name = "FILE")]
    pub(crate) checkpoints: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Archive {
    /// Ask the archive how far it is, and say what is not there yet.
    Status(Config),
    /// Make a new directory with the ledger and the recordings of an archive, check all of it, and say what is missing.
    Restore(ArchiveRestore),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Credentials come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the like.\n\
    What is restored is a copy for readers. It has no keys, and no gateway can go on with it: a ledger that is\n\
    continued from an earlier state is a fork, which witnesses and the archive refuse. Begin another with `init`."
)]
pub(crate) struct ArchiveRestore {
    /// The directory to be made.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// The archive, s3://bucket/prefix or file:///path; without it, that of the configuration.
    #[arg(long, value_name = "URL")]
    pub(crate) from: Option<String>,
    /// With --from: the S3-compatible server, an https URL, or http on loopback. Without it, AWS.
    #[arg(long, value_name = "URL", requires = "from")]
    pub(crate) endpoint: Option<String>,
    /// With --from: the region.
    #[arg(long, requires = "from")]
    pub(crate) region: Option<String>,
    /// With --from: certificates (PEM) that the server's TLS is checked against, instead of the system's.
    #[arg(long, value_name = "FILE", requires = "from")]
    pub(crate) ca: Option<PathBuf>,
    /// The roots: the log's public key and that of its first epoch, or a file that holds them. Without them, those that the
    /// archive names for itself, which proves less.
    #[arg(long, value_name = "FILE")]
    pub(crate) roots: Option<String>,
    /// A checkpoint that somebody else kept: a witness, an auditor, what is left of the lost disk. Says what is missing
    /// after the archive's last; may be repeated.
    #[arg(long = "checkpoint", visible_alias = "witnessed", value_name = "FILE")]
    pub(crate) checkpoints: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Witness {
    /// Make a witness's file with a fresh key.
    Init(WitnessInit),
    /// Let it witness a log.
    Add(WitnessAdd),
    /// Show its key, and the last head of each log.
    Show(WitnessFile),
    /// Answer logs in the foreground.
    Serve(WitnessServe),
}

/// Where a witness's file is.
#[derive(Clone, Debug, Args)]
pub(crate) struct WitnessFile {
    /// The witness's file.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct WitnessInit {
    #[command(flatten)]
    pub(crate) state: WitnessFile,
    /// The witness's name, a URL without its scheme, such as witness.example/w1. It is part of the key.
    #[arg(long)]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct WitnessAdd {
    #[command(flatten)]
    pub(crate) state: WitnessFile,
    /// The log's public key, or a file with the roots that `chancery init` printed.
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
}

#[derive(Debug, Args)]
pub(crate) struct WitnessServe {
    #[command(flatten)]
    pub(crate) state: WitnessFile,
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: std::net::SocketAddr,
    /// The file of the certificate chain, leaf first (PEM). Without it, ADDR must be a loopback.
    #[arg(long, value_name = "PEM", requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// The file of the certificate's private key (PEM).
    #[arg(long, value_name = "PEM", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
    /// Go on after the clock ran ahead and was set right: later times of former cosignatures are forgotten.
    #[arg(long)]
    pub(crate) forget_times: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Registry {
    /// Make a registry with a fresh key.
    Init(RegistryInit),
    /// Enter a log with its two roots.
    Join(RegistryJoin),
    /// Enter a log's head.
    Head(RegistryHead),
    /// Enter a log's last head: nothing follows.
    Retire(RegistryHead),
    /// Have the registry's head cosigned by witnesses.
    Cosign(RegistryCosign),
    /// Have an authority give a time to the registry's head (RFC 3161).
    Stamp(RegistryStamp),
    /// Show the logs, and the registry's key.
    Show(RegistryShow),
    /// Verify the registry itself with its key from outside.
    Verify(RegistryVerify),
}

/// Where a registry is.
#[derive(Clone, Debug, Args)]
pub(crate) struct RegistryDirectory {
    /// The registry's directory.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryInit {
    #[command(flatten)]
    pub(crate) registry: RegistryDirectory,
    /// The registry's name, a URL without its scheme, such as registry.example/prod. It is part of the key.
    #[arg(long)]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryJoin {
    #[command(flatten)]
    pub(crate) registry: RegistryDirectory,
    /// The file with the two roots that `chancery init` printed for the log.
    #[arg(value_name = "ROOTS")]
    pub(crate) roots: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryHead {
    #[command(flatten)]
    pub(crate) registry: RegistryDirectory,
    /// The file with a checkpoint of the log.
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) note: PathBuf,
    /// The log itself or a copy: it is verified, with every head that was entered before. Without it, its growth is taken
    /// on the word of the log's key.
    #[arg(long, value_name = "DIR")]
    pub(crate) ledger: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryCosign {
    #[command(flatten)]
    pub(crate) registry: RegistryDirectory,
    /// Who the witnesses are, where, and how many must cosign (C2SP tlog-policy).
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    /// Certificates (PEM) that their TLS may be checked against, beside the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryStamp {
    #[command(flatten)]
    pub(crate) registry: RegistryDirectory,
    /// Where the authority takes requests; http will do, for the answer is signed.
    #[arg(long, value_name = "URL")]
    pub(crate) tsa: String,
    /// The certificates (PEM) of who vouches for the authority's certificate. An answer that does not verify is not kept.
    #[arg(long, value_name = "FILE")]
    pub(crate) tsa_ca: PathBuf,
    /// Certificates (PEM) that the TLS of an https URL is checked against, instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryShow {
    #[command(flatten)]
    pub(crate) registry: RegistryDirectory,
    /// The registry's public key, or a file that holds it, where the directory is a copy without the private one.
    #[arg(long, value_name = "KEY", visible_alias = "registry")]
    pub(crate) registry_key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryVerify {
    #[command(flatten)]
    pub(crate) registry: RegistryDirectory,
    /// The registry's public key, or a file that holds it.
    #[arg(long, value_name = "KEY", visible_alias = "registry")]
    pub(crate) registry_key: String,
    /// Who the witnesses are and how many must have cosigned (C2SP tlog-policy). Without it their check is not made.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Who vouches for the authorities that stamped it: certificates (PEM). Without it their check is not made.
    #[arg(long, value_name = "FILE")]
    pub(crate) tsa_ca: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_line_is_read() {
        let cli = Cli::try_parse_from(["chancery", "secret", "set", "shop", "--user", "app", "--config", "c.toml"]);
        let Ok(Cli { command: Command::Secret(Secret::Set(set)), json: false }) = cli else { panic!("{cli:?}") };
        assert_eq!((set.name.as_str(), set.username.as_deref()), ("shop", Some("app")));
        for bad in [&["chancery"][..], &["chancery", "secret", "set", "x", "--password", "y"], &["chancery", "nosuch"]]
        {
            assert!(Cli::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }
}
