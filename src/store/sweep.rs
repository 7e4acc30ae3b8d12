//! After a complete scan: which records it did not show.

use std::collections::BTreeSet;

use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::observe::ENOUGH_SCANS;
use super::scan::Marks;
use super::sequence::{Sequence, draw, hold_records};
use super::tables::{record, scan, scan_mark};
use super::{Millis, RecordState, Result, Store, StoreError};

/// Records looked at in one step.
const STEP: u64 = 1000;

impl Store {
    /// Counts a complete scan's absences: each record it did not show becomes missing, and is to be looked
    /// at when that happened twice in a row. Returns how many were absent and how many for the second time.
    ///
    /// A record that was seen by other means since the scan began is not absent. Doing this again for the
    /// same scan changes nothing.
    pub async fn sweep_missing(&self, scan_id: i64, now: Millis) -> Result<(u64, u64)> {
        let tx = self.begin().await?;
        let scan = scan::Entity::find_by_id(scan_id)
            .filter(scan::Column::Tenant.eq(self.tenant()))
            .one(&tx)
            .await?
            .ok_or_else(|| StoreError::NotFound { what: "scan", id: scan_id.to_string() })?;
        if scan.swept {
            return Ok((0, 0));
        }
        hold_records(&tx).await?;
        let (mut absent, mut again) = (0, 0);
        // Missing ones first: the live ones that become missing now are not to be counted twice.
        for state in [RecordState::Missing, RecordState::Live] {
            let mut after = 0;
            loop {
                let step = self.candidates(&tx, &scan, state, after).await?;
                let Some(&(last, ..)) = step.last() else { break };
                after = last;
                let (some, some_again) = self.count_absent(&tx, scan_id, &step).await?;
                absent += some;
                again += some_again;
            }
        }
        scan::Entity::update_many()
            .col_expr(scan::Column::Swept, Expr::value(true))
            .col_expr(scan::Column::FinishedAt, Expr::value(scan.finished_at.unwrap_or(now)))
            .filter(scan::Column::Id.eq(scan_id))
            .exec(&tx)
            .await?;
        scan_mark::Entity::delete_many().filter(scan_mark::Column::ScanId.eq(scan_id)).exec(&tx).await?;
        tx.commit().await?;
        Ok((absent, again))
    }

    async fn candidates<C: ConnectionTrait>(
        &self,
        tx: &C,
        scan: &scan::Model,
        state: RecordState,
        after: i64,
    ) -> Result<Vec<(i64, i32, i64)>> {
        use record::Column;
        let rows: Vec<(i64, i32, i64)> = record::Entity::find()
            .select_only()
            .columns([Column::Id, Column::MissingScans, Column::ObservedAt])
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(scan.connection.as_str()))
            .filter(Column::Stream.eq(scan.stream.as_str()))
            .filter(Column::State.eq(state))
            .filter(Column::MissingScans.lt(ENOUGH_SCANS))
            .filter(Column::ObservedAt.lt(scan.started_at))
            .filter(Column::Id.gt(after))
            .order_by_asc(Column::Id)
            .limit(STEP)
            .into_tuple()
            .all(tx)
            .await?;
        Ok(rows)
    }

    async fn count_absent<C: ConnectionTrait>(
        &self,
        tx: &C,
        scan_id: i64,
        step: &[(i64, i32, i64)],
    ) -> Result<(u64, u64)> {
        use record::Column;
        let ids: BTreeSet<i64> = step.iter().map(|(id, ..)| *id).collect();
        let marks = Marks::read(tx, scan_id, &ids).await?;
        let unseen = step.iter().filter(|(id, ..)| !marks.contains(*id));
        let (again, first): (Vec<&(i64, i32, i64)>, Vec<_>) =
            unseen.partition(|(_, scans, _)| scans + 1 >= ENOUGH_SCANS);
        for (rows, twice) in [(&first, false), (&again, true)] {
            if rows.is_empty() {
                continue;
            }
            let mut update = record::Entity::update_many()
                .col_expr(Column::State, Expr::value(RecordState::Missing))
                .col_expr(Column::MissingScans, Expr::col(Column::MissingScans).add(1));
            if twice {
                let revision = draw(tx, Sequence::Revision, 1).await?;
                update =
                    update.col_expr(Column::Dirty, Expr::value(true)).col_expr(Column::Revision, Expr::value(revision));
            }
            update.filter(Column::Id.is_in(rows.iter().map(|(id, ..)| *id))).exec(tx).await?;
        }
        let (first, again) = (first.len() as u64, again.len() as u64);
        Ok((first + again, again))
    }
}
