//! Forgetting what is over: readings, runs that wrote nothing, and settled entries of the queue.
//!
//! What correctness rests on stays, however old: the reading that certifies a stream, what waits for a person, runs with
//! operations (they can be taken back), and for every kind of run the last one that ended so.

use std::collections::BTreeMap;

use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::budget::add_spent;
use super::tables::{budget_spent, conflict, conflict_record, outbox, run, scan, scan_mark, stream_state};
use super::{BATCH, ConflictState, Millis, Result, Store};

/// The run that the calls of forgotten ones are counted under; no run has this number.
const FORGOTTEN: i64 = 0;

/// How many rows were forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Readings.
    pub scans: u64,
    /// Settled entries of the queue.
    pub conflicts: u64,
    /// Runs.
    pub runs: u64,
}

impl Pruned {
    /// Whether there may be more: a batch was full.
    pub fn is_cut(&self) -> bool {
        [self.scans, self.conflicts, self.runs].contains(&(BATCH as u64))
    }
}

impl Store {
    /// Forgets what was over before a time, a batch of each kind; each batch is a commit of its own.
    pub async fn prune(&self, before: Millis) -> Result<Pruned> {
        Ok(Pruned {
            scans: self.prune_scans(before).await?,
            conflicts: self.prune_conflicts(before).await?,
            runs: self.prune_runs(before).await?,
        })
    }

    async fn prune_scans(&self, before: Millis) -> Result<u64> {
        use scan::Column;
        let tx = self.begin().await?;
        let of_stream = |column: stream_state::Column| {
            let mut rows = Query::select();
            rows.expr(Expr::val(1)).from(stream_state::Entity);
            rows.and_where(stream_state::Column::Tenant.eq(self.tenant()));
            rows.and_where(Expr::col((stream_state::Entity, column)).equals((scan::Entity, Column::Id)));
            Expr::exists(rows).not()
        };
        // One without an end was given up, unless its stream goes on with it.
        let is_over = Condition::any()
            .add(Column::FinishedAt.lt(before))
            .add(Condition::all().add(Column::FinishedAt.is_null()).add(Column::StartedAt.lt(before)));
        let ids: Vec<i64> = scan::Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(is_over)
            .filter(of_stream(stream_state::Column::LastCompleteScan))
            .filter(of_stream(stream_state::Column::OpenScan))
            .order_by_asc(Column::Id)
            .limit(BATCH as u64)
            .into_tuple()
            .all(&tx)
            .await?;
        scan_mark::Entity::delete_many().filter(scan_mark::Column::ScanId.is_in(ids.clone())).exec(&tx).await?;
        let gone = scan::Entity::delete_many().filter(Column::Id.is_in(ids)).exec(&tx).await?;
        tx.commit().await?;
        Ok(gone.rows_affected)
    }

    async fn prune_conflicts(&self, before: Millis) -> Result<u64> {
        use conflict::Column;
        let tx = self.begin().await?;
        let ids: Vec<i64> = conflict::Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::State.eq(ConflictState::Resolved))
            .filter(Column::ClosedAt.lt(before))
            .order_by_asc(Column::Id)
            .limit(BATCH as u64)
            .into_tuple()
            .all(&tx)
            .await?;
        conflict_record::Entity::delete_many()
            .filter(conflict_record::Column::ConflictId.is_in(ids.clone()))
            .exec(&tx)
            .await?;
        let gone = conflict::Entity::delete_many().filter(Column::Id.is_in(ids)).exec(&tx).await?;
        tx.commit().await?;
        Ok(gone.rows_affected)
    }

    async fn prune_runs(&self, before: Millis) -> Result<u64> {
        use run::Column;
        let tx = self.begin().await?;
        let last: Vec<i64> = run::Entity::find()
            .select_only()
            .column_as(Column::Id.max(), "id")
            .filter(Column::Tenant.eq(self.tenant()))
            .group_by(Column::Kind)
            .group_by(Column::Syncs)
            .group_by(Column::Verdict)
            .into_tuple()
            .all(&tx)
            .await?;
        let mut operations = Query::select();
        operations.expr(Expr::val(1)).from(outbox::Entity);
        operations.and_where(outbox::Column::Tenant.eq(self.tenant()));
        operations.and_where(Expr::col((outbox::Entity, outbox::Column::RunId)).equals((run::Entity, Column::Id)));
        let ids: Vec<i64> = run::Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::FinishedAt.lt(before))
            .filter(Column::Id.is_not_in(last))
            .filter(Expr::exists(operations).not())
            .order_by_asc(Column::Id)
            .limit(BATCH as u64)
            // Another process that forgets at the same time must not count their calls once more.
            .lock_exclusive()
            .into_tuple()
            .all(&tx)
            .await?;
        self.fold_spent(&tx, &ids).await?;
        let gone = run::Entity::delete_many().filter(Column::Id.is_in(ids)).exec(&tx).await?;
        tx.commit().await?;
        Ok(gone.rows_affected)
    }

    /// Keeps what forgotten runs have called as one sum: it is counted on from there.
    async fn fold_spent<C: ConnectionTrait>(&self, tx: &C, runs: &[i64]) -> Result<()> {
        use budget_spent::Column;
        let of_them =
            Condition::all().add(Column::Tenant.eq(self.tenant())).add(Column::RunId.is_in(runs.iter().copied()));
        let mut sums: BTreeMap<(String, String, String), (i64, i64)> = BTreeMap::new();
        for row in budget_spent::Entity::find().filter(of_them.clone()).all(tx).await? {
            let (n, limited) = sums.entry((row.connection, row.lane, row.purpose)).or_default();
            *n += row.n;
            *limited += row.limited;
        }
        let rows = sums.into_iter().map(|((connection, lane, purpose), (n, limited))| budget_spent::ActiveModel {
            tenant: Set(self.tenant().to_owned()),
            run_id: Set(FORGOTTEN),
            connection: Set(connection),
            lane: Set(lane),
            purpose: Set(purpose),
            n: Set(n),
            limited: Set(limited),
        });
        add_spent(tx, rows.collect()).await?;
        budget_spent::Entity::delete_many().filter(of_them).exec(tx).await?;
        Ok(())
    }
}
