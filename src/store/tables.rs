//! The tables as sea-orm entities; private to the store.

/// Declares entities: every table here is plain columns without sea-orm relations.
macro_rules! table {
    ($(#[$doc:meta])* $module:ident = $table:literal { $($(#[$attribute:meta])* $field:ident : $type:ty),* $(,)? }) => {
        $(#[$doc])*
        pub mod $module {
            #[allow(unused_imports)]
            use crate::store::{ConflictState, HookState, MessageState, OpState, RecordState};
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
            #[sea_orm(table_name = $table)]
            pub struct Model {
                $($(#[$attribute])* pub $field: $type),*
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}

table!(
    /// Counters that hand out row numbers.
    sequence = "sequence" {
        #[sea_orm(primary_key, auto_increment = false)]
        name: String,
        next: i64,
    }
);
table!(
    /// Small facts about the installation.
    meta = "meta" {
        #[sea_orm(primary_key, auto_increment = false)]
        tenant: String,
        #[sea_orm(primary_key, auto_increment = false)]
        key: String,
        value: String,
    }
);
table!(
    /// People (later conversations, orders, tickets).
    entity = "entity" {
        #[sea_orm(primary_key, auto_increment = false)]
        id: i64,
        tenant: String,
        kind: String,
        created_at: i64,
        updated_at: i64,
        golden: String,
    }
);
table!(
    /// The narrow part of a record: what every row of every page is compared with.
    record = "record" {
        #[sea_orm(primary_key, auto_increment = false)]
        id: i64,
        tenant: String,
        connection: String,
        stream: String,
        external_id: String,
        state: RecordState,
        dirty: bool,
        revision: i64,
        missing_scans: i32,
        fingerprint: String,
        observed_at: i64,
        remote_updated_at: Option<i64>,
        version: Option<String>,
        merged_into: Option<String>,
    }
);
table!(
    /// The wide part of a record: written only when it changed.
    body = "record_body" {
        #[sea_orm(primary_key, auto_increment = false)]
        record_id: i64,
        tenant: String,
        fields: String,
        remote: String,
    }
);
table!(
    /// What reconciling knows of a record; no row until it was reconciled.
    link = "record_link" {
        #[sea_orm(primary_key, auto_increment = false)]
        record_id: i64,
        tenant: String,
        entity_id: Option<i64>,
        linked_at: Option<i64>,
        evidence: Option<String>,
        agreed: Option<String>,
        apart: Option<String>,
    }
);
table!(
    /// Identity keys of records.
    record_key = "record_key" {
        #[sea_orm(primary_key, auto_increment = false)]
        tenant: String,
        #[sea_orm(primary_key, auto_increment = false)]
        kind: String,
        #[sea_orm(primary_key, auto_increment = false)]
        value: String,
        #[sea_orm(primary_key, auto_increment = false)]
        record_id: i64,
    }
);
table!(
    /// Where the reading of a stream stands.
    stream_state = "stream_state" {
        #[sea_orm(primary_key, auto_increment = false)]
        tenant: String,
        #[sea_orm(primary_key, auto_increment = false)]
        connection: String,
        #[sea_orm(primary_key, auto_increment = false)]
        stream: String,
        watermark: Option<i64>,
        clock_offset: Option<i64>,
        deep_cursor: Option<String>,
        open_scan: Option<i64>,
        last_complete_scan: Option<i64>,
        last_pull_at: Option<i64>,
        typical_rows: Option<i64>,
    }
);
table!(
    /// Passes over a stream.
    scan = "scan" {
        #[sea_orm(primary_key, auto_increment = false)]
        id: i64,
        tenant: String,
        connection: String,
        stream: String,
        mode: String,
        started_at: i64,
        finished_at: Option<i64>,
        pages: i64,
        rows: i64,
        distinct: i64,
        total: Option<i64>,
        cursor: Option<String>,
        passes: i64,
        complete: bool,
        why: Option<String>,
        swept: bool,
    }
);
table!(
    /// Which records a scan has seen: one bit per record number.
    scan_mark = "scan_mark" {
        #[sea_orm(primary_key, auto_increment = false)]
        scan_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        chunk: i64,
        tenant: String,
        bits: Vec<u8>,
    }
);
table!(
    /// Executions of the engine.
    run = "run" {
        #[sea_orm(primary_key, auto_increment = false)]
        id: i64,
        tenant: String,
        kind: String,
        syncs: String,
        config_hash: String,
        started_at: i64,
        finished_at: Option<i64>,
        verdict: Option<String>,
        summary: Option<String>,
    }
);
table!(
    /// Who may work on what.
    lease = "lease" {
        #[sea_orm(primary_key, auto_increment = false)]
        tenant: String,
        #[sea_orm(primary_key, auto_increment = false)]
        name: String,
        holder: String,
        epoch: i64,
        until: i64,
    }
);
table!(
    /// Operations to do and done.
    outbox = "outbox" {
        #[sea_orm(primary_key, auto_increment = false)]
        tenant: String,
        #[sea_orm(primary_key, auto_increment = false)]
        id: String,
        run_id: i64,
        sync: String,
        connection: String,
        action: String,
        lane: i16,
        cost: i32,
        cleared: i32,
        entity_id: i64,
        record_id: Option<i64>,
        state: OpState,
        attempts: i32,
        not_before: Option<i64>,
        created_at: i64,
        updated_at: i64,
        error: Option<String>,
        op: String,
        answer: Option<String>,
    }
);
table!(
    /// What came in from outside, stored before it was answered.
    hook = "hook" {
        #[sea_orm(primary_key, auto_increment = false)]
        id: i64,
        tenant: String,
        connection: String,
        received_at: i64,
        hints: String,
        body: String,
        state: HookState,
        attempts: i32,
        not_before: i64,
        done_at: Option<i64>,
        error: Option<String>,
    }
);
table!(
    /// What happened in a business or chat system.
    event = "event" {
        #[sea_orm(primary_key, auto_increment = false)]
        id: i64,
        tenant: String,
        connection: String,
        stream: String,
        external_id: String,
        kind: String,
        nth: String,
        happened_at: i64,
        seen_at: i64,
        live: bool,
        caused_by: Option<i64>,
        subject: String,
    }
);
table!(
    /// What is done in chats because of an event.
    message = "message" {
        #[sea_orm(primary_key, auto_increment = false)]
        id: i64,
        tenant: String,
        key: String,
        flow: String,
        event_id: i64,
        action: String,
        connection: String,
        party: String,
        conversation: Option<String>,
        contact: Option<String>,
        text: Option<String>,
        mark: String,
        fell_back: bool,
        state: MessageState,
        reason: Option<String>,
        until: i64,
        attempts: i32,
        attempted_at: Option<i64>,
        undone_at: Option<i64>,
        remote_id: Option<String>,
        created_at: i64,
        updated_at: i64,
    }
);
table!(
    /// What was read of a conversation's messages.
    history = "history" {
        #[sea_orm(primary_key, auto_increment = false)]
        record_id: i64,
        tenant: String,
        fingerprint: String,
        messages: i64,
        read_at: i64,
        not_before: i64,
        cursor: Option<String>,
    }
);
table!(
    /// What waits for a person, and what was settled by a rule.
    conflict = "conflict" {
        #[sea_orm(primary_key, auto_increment = false)]
        id: i64,
        tenant: String,
        kind: String,
        key: String,
        open_key: Option<String>,
        state: ConflictState,
        entity_id: Option<i64>,
        field: Option<String>,
        settled: Option<String>,
        opened_at: i64,
        closed_at: Option<i64>,
        record_ids: String,
        detail: String,
        resolution: Option<String>,
    }
);
table!(
    /// Records a conflict is about.
    conflict_record = "conflict_record" {
        #[sea_orm(primary_key, auto_increment = false)]
        conflict_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        record_id: i64,
        tenant: String,
    }
);
table!(
    /// One window of one vendor account.
    budget_account = "budget_account" {
        #[sea_orm(primary_key, auto_increment = false)]
        tenant: String,
        #[sea_orm(primary_key, auto_increment = false)]
        account: String,
        #[sea_orm(primary_key, auto_increment = false)]
        class: String,
        #[sea_orm(primary_key, auto_increment = false)]
        per_ms: i64,
        configured: i64,
        learned: Option<i64>,
        paced_until: i64,
        not_before: i64,
        learned_at: i64,
        answers: i64,
    }
);
table!(
    /// Calls drawn from an account.
    budget_grant = "budget_grant" {
        #[sea_orm(primary_key)]
        id: i64,
        tenant: String,
        account: String,
        class: String,
        lane: String,
        purpose: String,
        connection: String,
        run_id: i64,
        holder: String,
        n: i32,
        at_ms: i64,
        until_ms: i64,
    }
);
table!(
    /// Calls per run.
    budget_spent = "budget_spent" {
        #[sea_orm(primary_key, auto_increment = false)]
        tenant: String,
        #[sea_orm(primary_key, auto_increment = false)]
        run_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        connection: String,
        #[sea_orm(primary_key, auto_increment = false)]
        lane: String,
        #[sea_orm(primary_key, auto_increment = false)]
        purpose: String,
        n: i64,
        limited: i64,
    }
);
