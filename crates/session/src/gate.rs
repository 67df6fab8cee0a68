//! The two doors. Nothing else in the house calls `forward`, `pass` or `release` of a relay.

use chancery_ledger::Recorded;
use chancery_mask::Masked;
use chancery_model::{CommandId, Digest, Input, Output, Refusal};
use chancery_policy::{Permit, Scope};
use chancery_wire::Relay;

/// A relay whose doors open for proofs only.
pub(crate) struct Gate<R>(R);

/// A recorded permit did not belong to the command it was offered for.
#[derive(Debug)]
pub(crate) struct WrongPermit;

impl<R: Relay> Gate<R> {
    pub(crate) fn new(relay: R) -> Self {
        Self(relay)
    }

    /// Everything but the doors.
    pub(crate) fn relay(&self) -> &R {
        &self.0
    }

    /// Everything but the doors. Callers in this crate use it to receive, poll, inform, transmit and close.
    pub(crate) fn relay_mut(&mut self) -> &mut R {
        &mut self.0
    }

    /// Up to the resource goes only a recorded permit, for the very command it was given for.
    pub(crate) fn forward(
        &mut self,
        command: CommandId,
        digest: &Digest,
        scope: Scope,
        permit: Recorded<Permit>,
    ) -> Result<(), WrongPermit> {
        let permit = permit.into_inner();
        if permit.digest() != *digest || permit.scope() != scope {
            return Err(WrongPermit);
        }
        self.0.forward(command);
        Ok(())
    }

    /// A refusal is carried out only when it stands in the ledger.
    pub(crate) fn refuse(&mut self, command: CommandId, refusal: &Recorded<Refusal>) {
        self.0.refuse(command, refusal.subject());
    }

    /// The ledger cannot be written: refusing is all that is left.
    pub(crate) fn refuse_unrecorded(&mut self, command: CommandId, refusal: &Refusal) {
        self.0.refuse(command, refusal);
    }

    /// Input of a command that was forwarded goes up when its count and hash stand in the recording.
    pub(crate) fn pass(&mut self, input: Recorded<Input>) {
        self.0.pass(input.into_inner());
    }

    /// Down to the client goes only a recorded, masked output.
    pub(crate) fn release(&mut self, output: Recorded<Masked<Output>>) {
        self.0.release(output.into_inner().into_inner());
    }
}
