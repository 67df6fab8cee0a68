//! What stays the same during a session, and the ruling on its opening.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::hmac;
use chancery_ledger::{Staged, stage};
use chancery_mask::MaskRules;
use chancery_model::{
    Action, Authentication, CommandId, Delegation, Digest, Effect, Facts, Need, Object, Refusal, RefusalCode, Resource,
    SessionId, Timestamp,
};
use chancery_policy::{CommandDigests, Request, RuleSet, Subject, Verdict, command_salt, decide};

use crate::ruling::{Ruled, Ruling};

/// Bounds of a session. Reaching one is a named refusal.
#[derive(Clone, Debug)]
pub struct SessionLimits {
    /// Output bytes that wait for a record or a catalog before the resource is not read any more.
    pub waiting_bytes_max: usize,
    /// Statement shapes whose ruling is remembered.
    pub shapes_max: usize,
    /// Statement text that is remembered by itself, if it has no shape.
    pub text_bytes_max: usize,
    /// How long a command is held at most, whatever the review rule says, in microseconds.
    pub hold_micros_max: i64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            waiting_bytes_max: 4 * 1024 * 1024,
            shapes_max: 256,
            text_bytes_max: 4096,
            hold_micros_max: 24 * 3600 * 1_000_000,
        }
    }
}

/// What a session knows about itself.
pub struct Context {
    /// Its id.
    pub id: SessionId,
    /// On whose behalf, through whom.
    pub chain: Arc<Delegation>,
    /// The chain's id in entries.
    pub chain_id: [u8; 16],
    /// How it was proven, and until when.
    pub authentication: Authentication,
    /// What is worked on.
    pub resource: Arc<Resource>,
    /// The client's address.
    pub client: IpAddr,
    /// Key of the statement fingerprints.
    pub fingerprint_key: hmac::Key,
    /// The resource's mask rules.
    pub mask: Arc<MaskRules>,
    /// The token allows reading only.
    pub only_read: bool,
    /// What the resource sends is kept sealed, unmasked, for those outside who can open it.
    pub seals: bool,
    /// False: held commands are refused at once with their review id.
    pub wait: bool,
    /// Random bytes from which review ids are drawn.
    pub seed: [u8; 32],
    /// Bounds.
    pub limits: SessionLimits,
}

impl Context {
    /// The keyed fingerprint of a literal-stripped statement.
    pub(crate) fn fingerprint(&self, redacted: &str) -> Digest {
        let mut digest = Digest::default();
        digest.0.copy_from_slice(hmac::sign(&self.fingerprint_key, redacted.as_bytes()).as_ref());
        digest
    }

    pub(crate) fn refusal(&self, code: RefusalCode, command: CommandId, message: impl Into<String>) -> Refusal {
        Refusal::new(code, message, format!("{}/{command}", self.id))
    }
}

/// The rule set in force and what it knows of this session's chain.
pub struct Grip {
    /// The rule set.
    pub rules: Arc<RuleSet>,
    /// Its view of the chain and the resource.
    pub subject: Subject,
    /// Digests of commands under it.
    pub digests: CommandDigests,
}

impl Grip {
    /// Prepares a rule set for a session.
    pub fn new(rules: Arc<RuleSet>, context: &Context) -> Self {
        let subject = Subject::new(&rules, &context.chain, &context.authentication, &context.resource, context.client);
        let resource = &context.resource.name;
        let salt = command_salt(&context.fingerprint_key, &context.chain);
        let digests = CommandDigests::new(&salt, resource, "postgres", &context.chain, &rules.digest());
        Self { rules, subject, digests }
    }

    /// The verdict on opening the session.
    pub(crate) fn connect(&self, context: &Context, now: Timestamp) -> (Digest, Verdict) {
        let digest = self.digests.of("connect", &context.id.0, &[]);
        let facts = Facts::connect();
        let needs = [Need { action: Action::Connect, object: Object::Resource }];
        let request =
            Request { subject: &self.subject, digest, facts: &facts, needs: &needs, reviews: &[], connect: true };
        (digest, decide(&request, &self.rules, now))
    }
}

/// The opening of a session: a command like any other, ruled on before the resource is dialled.
pub struct Opening;

impl Opening {
    /// Rules on it. The staged ruling narrows to a permit or a refusal once it is recorded.
    pub fn rule(context: &Arc<Context>, grip: &Grip, now: Timestamp) -> Staged<Box<Ruling>> {
        let (digest, verdict) = grip.connect(context, now);
        let ruled = match verdict {
            Verdict::Allow(permit) => Ruled::Open(permit),
            Verdict::Deny(denial) => {
                let reference = context.id.to_string();
                Ruled::Refuse(denial.refusal(&reference), denial.rules().to_vec())
            }
            Verdict::Hold(hold) => {
                let message = format!("opening this session needs a review ({})", hold.needed().join(", "));
                let refusal = context.refusal(RefusalCode::Unsupported, CommandId(0), message);
                Ruled::Refuse(refusal.hint("reviews of whole sessions are not supported yet"), Vec::new())
            }
        };
        stage(Box::new(Ruling {
            context: context.clone(),
            command: CommandId(0),
            digest,
            fingerprint: Digest::default(),
            effect: Effect::Read,
            rules: grip.rules.digest(),
            ruled,
        }))
    }
}
