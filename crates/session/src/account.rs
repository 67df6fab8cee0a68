//! What masking did since the last mask map (`docs/spec/recording.md`), and when the next one is due. Not here: masking,
//! and the form of a map.

use std::sync::Arc;

use bytes::Bytes;
use chancery_ledger::{FrameKind, mask_map};
use chancery_mask::{Masked, Plan, Report};
use chancery_model::{CommandId, Output, OutputKind, Timestamp};
use chancery_wire::Relay;

use crate::session::Session;

/// What the next map will speak of.
#[derive(Default)]
pub(crate) struct Account {
    /// There are outputs that it speaks of.
    open: bool,
    command: CommandId,
    plan: Option<Arc<Plan>>,
    /// Rows, or bulk data, of this plan were shown.
    rows: bool,
    text: Option<&'static str>,
    report: Report,
    /// Parameters and notifications that were changed.
    asides: u64,
    /// Its command ended.
    pub(crate) due: bool,
}

impl<R: Relay> Session<R> {
    /// Takes an output that is about to be masked by this plan into account. If it is masked in another way than those
    /// before it, they are told first.
    pub(crate) fn account_for(&mut self, output: &Output, plan: &Arc<Plan>, now: Timestamp) {
        let idle = self.idle.is_some() && !self.context.seals;
        if idle || matches!(output.kind, OutputKind::Status) {
            return;
        }
        let rows = matches!(output.kind, OutputKind::Rows | OutputKind::Bulk { .. });
        let result = rows || matches!(output.kind, OutputKind::Columns(_) | OutputKind::BulkStart { .. });
        let text = match output.kind {
            OutputKind::Text => Some(plan.text_word()),
            OutputKind::Own => Some("own"),
            _ => None,
        };
        let before = &self.account;
        let another = result && before.rows && before.plan.as_ref().is_some_and(|open| !Arc::ptr_eq(open, plan));
        let another_text = text.zip(before.text).is_some_and(|(next, open)| next != open);
        if before.due || another || another_text {
            self.tell_map(now);
        }
        let account = &mut self.account;
        if result && !account.plan.as_ref().is_some_and(|open| Arc::ptr_eq(open, plan)) {
            account.plan = Some(plan.clone());
        }
        // A description has no values: that nobody masked it need not be told.
        account.open |= rows || !result;
        account.rows |= rows;
        if rows || text.is_some() && !account.rows {
            account.command = output.command;
        }
        account.text = text.or(account.text);
        // No command of its own ends a refusal.
        account.due |= matches!(output.kind, OutputKind::Own);
    }

    /// Takes what was done to it into account. `aside`: its bytes before, if it is one.
    pub(crate) fn account_of(&mut self, masked: &Masked<Output>, aside: Option<&Bytes>) {
        if let Some(before) = aside.filter(|_| !masked.is_withheld()) {
            self.account.asides += u64::from(masked.inner().bytes != *before);
        } else if let Some(report) = masked.report() {
            self.account.report.add(report);
        }
    }

    /// Writes the map of what was shown since the last one, if something was masked or if somebody has the originals.
    pub(crate) fn tell_map(&mut self, now: Timestamp) {
        let account = std::mem::take(&mut self.account);
        let masked = account.asides > 0 || account.report != Report::default();
        if !account.open || !(masked || self.context.seals) {
            return;
        }
        // A session that ended shows nothing more; what was gathered then is not recorded, and the map stands alone.
        if !self.ended {
            self.tape_gathered(now);
        }
        let plan = account.plan.filter(|_| account.rows);
        let map = self.masker.map(plan.as_deref(), account.text, &account.report, account.asides);
        self.note(account.command, FrameKind::MaskMap, Bytes::from(mask_map(&map)), now);
    }
}
