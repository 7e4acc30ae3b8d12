//! Runs: one row per execution of the engine.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::Value;

use super::json::{from_optional, from_text, to_text};
use super::sequence::{Sequence, draw};
use super::tables::run::{ActiveModel, Column, Entity, Model};
use super::{Millis, Result, Store};

/// One execution of the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Number of the run.
    pub id: i64,
    /// `sync`, `plan`, `apply`, `revert`.
    pub kind: String,
    /// Names of the syncs.
    pub syncs: Vec<String>,
    /// When it began.
    pub started_at: Millis,
    /// When it ended; none while it works, or after a crash until that is noticed.
    pub finished_at: Option<Millis>,
    /// How it ended.
    pub verdict: Option<String>,
    /// What it did; null before the end.
    pub summary: Value,
    /// Hash of the configuration it ran with.
    pub config_hash: String,
}

/// Verdict of a run whose process died.
const DIED: &str = "failed";

impl Store {
    /// Records the begin of a run and returns its number.
    pub async fn start_run(&self, kind: &str, syncs: &[String], config_hash: &str, now: Millis) -> Result<i64> {
        let tx = self.begin().await?;
        let id = draw(&tx, Sequence::Run, 1).await?;
        let row = ActiveModel {
            id: Set(id),
            tenant: Set(self.tenant().to_owned()),
            kind: Set(kind.to_owned()),
            syncs: Set(to_text(&syncs)),
            config_hash: Set(config_hash.to_owned()),
            started_at: Set(now),
            finished_at: Set(None),
            verdict: Set(None),
            summary: Set(None),
        };
        row.insert(&tx).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Records how a run ended.
    pub async fn finish_run(&self, id: i64, verdict: &str, summary: &Value, now: Millis) -> Result<()> {
        let tx = self.begin().await?;
        Entity::update_many()
            .col_expr(Column::FinishedAt, Expr::value(now))
            .col_expr(Column::Verdict, Expr::value(verdict))
            .col_expr(Column::Summary, Expr::value(to_text(summary)))
            .filter(Column::Id.eq(id))
            .filter(Column::Tenant.eq(self.tenant()))
            .exec(&tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Ends the unfinished runs of these syncs as failed and returns their numbers.
    ///
    /// Call it while holding the leases of the syncs and before starting a run: then no living process can
    /// be working on them, so whoever began those runs is dead.
    pub async fn fail_orphaned_runs(&self, syncs: &[String], now: Millis) -> Result<Vec<i64>> {
        let tx = self.begin().await?;
        let open = Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::FinishedAt.is_null())
            .order_by_asc(Column::Id)
            .all(&tx)
            .await?;
        let mut failed = Vec::new();
        for run in open.into_iter().map(Run::try_from) {
            let run = run?;
            if run.syncs.iter().any(|name| syncs.contains(name)) {
                failed.push(run.id);
            }
        }
        let summary = serde_json::json!({ "verdict": DIED, "error": "the process ended before the run did" });
        Entity::update_many()
            .col_expr(Column::FinishedAt, Expr::value(now))
            .col_expr(Column::Verdict, Expr::value(DIED))
            .col_expr(Column::Summary, Expr::value(to_text(&summary)))
            .filter(Column::Id.is_in(failed.iter().copied()))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(failed)
    }

    /// Ends the unfinished runs of a kind as failed. For whoever holds what runs of that kind work under.
    pub async fn fail_orphaned_kind(&self, kind: &str, now: Millis) -> Result<u64> {
        let tx = self.begin().await?;
        let summary = serde_json::json!({ "verdict": DIED, "error": "the process ended before the run did" });
        let done = Entity::update_many()
            .col_expr(Column::FinishedAt, Expr::value(now))
            .col_expr(Column::Verdict, Expr::value(DIED))
            .col_expr(Column::Summary, Expr::value(to_text(&summary)))
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Kind.eq(kind))
            .filter(Column::FinishedAt.is_null())
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected)
    }

    /// The last run that was to write for a sync.
    pub async fn last_run_of(&self, sync: &str) -> Result<Option<Run>> {
        /// Names that only look alike to the database are few.
        const ENOUGH: u64 = 50;
        let rows = Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Kind.is_in(["sync", "apply"]))
            .filter(Column::Syncs.contains(to_text(&sync)))
            .order_by_desc(Column::Id)
            .limit(ENOUGH)
            .all(self.reader())
            .await?;
        for row in rows {
            let run = Run::try_from(row)?;
            if run.syncs.iter().any(|name| name == sync) {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    /// The latest runs, newest first.
    pub async fn runs(&self, limit: u64) -> Result<Vec<Run>> {
        self.runs_before(i64::MAX, limit).await
    }

    /// Runs before run `before`, newest first.
    pub async fn runs_before(&self, before: i64, limit: u64) -> Result<Vec<Run>> {
        let rows = Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Id.lt(before))
            .order_by_desc(Column::Id)
            .limit(limit)
            .all(self.reader())
            .await?;
        rows.into_iter().map(Run::try_from).collect()
    }

    /// How many runs there are before run `before`.
    pub async fn count_runs_before(&self, before: i64) -> Result<u64> {
        let found = Entity::find().filter(Column::Tenant.eq(self.tenant())).filter(Column::Id.lt(before));
        Ok(found.count(self.reader()).await?)
    }

    /// One run.
    pub async fn run(&self, id: i64) -> Result<Option<Run>> {
        let row = Entity::find_by_id(id).filter(Column::Tenant.eq(self.tenant())).one(self.reader()).await?;
        row.map(Run::try_from).transpose()
    }
}

impl TryFrom<Model> for Run {
    type Error = super::StoreError;

    fn try_from(row: Model) -> Result<Run> {
        let id = row.id.to_string();
        Ok(Run {
            syncs: from_text("run", &id, &row.syncs)?,
            summary: from_optional("run", &id, row.summary.as_deref())?.unwrap_or_default(),
            id: row.id,
            kind: row.kind,
            started_at: row.started_at,
            finished_at: row.finished_at,
            verdict: row.verdict,
            config_hash: row.config_hash,
        })
    }
}
