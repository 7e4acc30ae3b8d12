//! The ledger's tables. What the numbers mean is decided in [`crate::budget`]; here they are read and
//! written, inside one transaction that holds the account.

use std::collections::BTreeMap;

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ActiveValue::NotSet, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, Select,
};

use super::tables::{budget_account, budget_grant, budget_spent};
use super::{BATCH, Millis, Result, Store};

/// Calls of one run, by what they were for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spent {
    /// The connection.
    pub connection: String,
    /// The lane.
    pub lane: String,
    /// The purpose.
    pub purpose: String,
    /// How many calls.
    pub n: u64,
}

impl Store {
    /// Calls of a run, by connection, lane and purpose.
    pub async fn spent(&self, run_id: i64) -> Result<Vec<Spent>> {
        let rows = self.spent_rows(run_id).await?;
        Ok(rows
            .into_iter()
            .filter(|row| row.n > 0)
            .map(|row| Spent {
                connection: row.connection,
                lane: row.lane,
                purpose: row.purpose,
                n: row.n.unsigned_abs(),
            })
            .collect())
    }

    /// Calls of all runs so far, by connection.
    pub async fn spent_by_connection(&self) -> Result<BTreeMap<String, u64>> {
        use budget_spent::Column;
        // PostgreSQL sums big integers as something wider.
        let sum = Column::N.sum().cast_as("bigint");
        let rows: Vec<(String, i64)> = budget_spent::Entity::find()
            .select_only()
            .column(Column::Connection)
            .column_as(sum, "n")
            .filter(Column::Tenant.eq(self.tenant()))
            .group_by(Column::Connection)
            .into_tuple()
            .all(self.reader())
            .await?;
        Ok(rows.into_iter().map(|(connection, n)| (connection, n.unsigned_abs())).collect())
    }

    /// How often a run was told that it was too fast, by connection.
    pub async fn rate_limited(&self, run_id: i64) -> Result<BTreeMap<String, u64>> {
        let mut limited = BTreeMap::new();
        for row in self.spent_rows(run_id).await? {
            if row.limited > 0 {
                *limited.entry(row.connection).or_default() += row.limited.unsigned_abs();
            }
        }
        Ok(limited)
    }

    async fn spent_rows(&self, run_id: i64) -> Result<Vec<budget_spent::Model>> {
        use budget_spent::Column;
        Ok(budget_spent::Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::RunId.eq(run_id))
            .order_by_asc(Column::Connection)
            .order_by_asc(Column::Lane)
            .order_by_asc(Column::Purpose)
            .all(self.reader())
            .await?)
    }

    /// The windows of an account as they stand, without holding it: for showing.
    pub(crate) async fn windows_now(&self, account: &str) -> Result<Vec<Window>> {
        use budget_account::Column;
        let rows = budget_account::Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Account.eq(account))
            .all(self.reader())
            .await?;
        Ok(rows.into_iter().map(Window::from).collect())
    }

    /// [`AccountTx::used`] without holding the account.
    pub(crate) async fn used_now(&self, account: &str, class: &str, since: Millis) -> Result<i64> {
        sum(self.reader(), counted(self.tenant(), account, class, since)).await
    }

    /// Begins working on a vendor account.
    pub(crate) async fn account<'a>(&'a self, account: &'a str) -> Result<AccountTx<'a>> {
        Ok(AccountTx { tx: self.begin().await?, tenant: self.tenant(), account })
    }
}

/// One window of an account as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Class of endpoint it counts; `all` counts every call.
    pub class: String,
    /// Its length.
    pub per_ms: i64,
    /// Calls it allows as configured.
    pub configured: i64,
    /// Calls it really allows, as far as was learned.
    pub learned: Option<i64>,
    /// Until when paced calls have used up their rate, in nanoseconds since the epoch.
    pub paced_until: i64,
    /// No call before this time.
    pub not_before: Millis,
    /// When `learned` changed last.
    pub learned_at: Millis,
    /// Good answers since then.
    pub answers: i64,
}

impl From<budget_account::Model> for Window {
    fn from(row: budget_account::Model) -> Window {
        Window {
            class: row.class,
            per_ms: row.per_ms,
            configured: row.configured,
            learned: row.learned,
            paced_until: row.paced_until,
            not_before: row.not_before,
            learned_at: row.learned_at,
            answers: row.answers,
        }
    }
}

/// Adds calls to those that are counted already.
pub(super) async fn add_spent<C: ConnectionTrait>(tx: &C, rows: Vec<budget_spent::ActiveModel>) -> Result<()> {
    use budget_spent::Column;
    if rows.is_empty() {
        return Ok(());
    }
    let plus = |column: Column| Expr::col((budget_spent::Entity, column)).add(Expr::col(("excluded", column)));
    budget_spent::Entity::insert_many(rows)
        .on_conflict(
            OnConflict::columns([Column::Tenant, Column::RunId, Column::Connection, Column::Lane, Column::Purpose])
                .value(Column::N, plus(Column::N))
                .value(Column::Limited, plus(Column::Limited))
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// Draws that a window of this class counts: those that end after `since`.
fn counted(tenant: &str, account: &str, class: &str, since: Millis) -> Select<budget_grant::Entity> {
    use budget_grant::Column;
    let counted = budget_grant::Entity::find()
        .filter(Column::Tenant.eq(tenant))
        .filter(Column::Account.eq(account))
        .filter(Column::UntilMs.gt(since));
    if class == crate::budget::EVERY_CALL { counted } else { counted.filter(Column::Class.eq(class)) }
}

async fn sum<C: ConnectionTrait>(db: &C, counted: Select<budget_grant::Entity>) -> Result<i64> {
    let sum: Option<Option<i64>> =
        counted.select_only().column_as(budget_grant::Column::N.sum(), "n").into_tuple().one(db).await?;
    Ok(sum.flatten().unwrap_or(0))
}

/// A draw from an account.
#[derive(Clone, Debug)]
pub(crate) struct Grant<'a> {
    pub class: &'a str,
    pub lane: &'a str,
    pub purpose: &'a str,
    pub connection: &'a str,
    pub run_id: i64,
    pub holder: &'a str,
    pub n: i64,
    pub at: Millis,
    pub until: Millis,
}

/// What calls were for, as a key: connection, lane, purpose.
pub(crate) type SpentKey = (String, &'static str, &'static str);

/// Calls made, and calls answered with "too fast".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub n: i64,
    pub limited: i64,
}

/// A transaction on one vendor account.
pub(crate) struct AccountTx<'a> {
    tx: DatabaseTransaction,
    tenant: &'a str,
    account: &'a str,
}

impl AccountTx<'_> {
    /// Reads the account's windows and holds them until the end of the transaction; new ones are added, and
    /// one whose configured limit changed forgets what it had learned.
    pub async fn windows(&self, configured: &[(String, i64, i64)]) -> Result<Vec<Window>> {
        let mut rows = self.locked().await?;
        let known = |rows: &[budget_account::Model], (class, per_ms, limit): &(String, i64, i64)| {
            rows.iter().any(|row| row.class == *class && row.per_ms == *per_ms && row.configured == *limit)
        };
        if !configured.iter().all(|window| known(&rows, window)) {
            self.configure(configured).await?;
            rows = self.locked().await?;
        }
        let wanted = |row: &budget_account::Model| {
            configured.iter().any(|(class, per_ms, _)| row.class == *class && row.per_ms == *per_ms)
        };
        Ok(rows.into_iter().filter(wanted).map(Window::from).collect())
    }

    async fn locked(&self) -> Result<Vec<budget_account::Model>> {
        use budget_account::Column;
        Ok(budget_account::Entity::find()
            .filter(Column::Tenant.eq(self.tenant))
            .filter(Column::Account.eq(self.account))
            .order_by_asc(Column::Class)
            .order_by_asc(Column::PerMs)
            .lock_exclusive()
            .all(&self.tx)
            .await?)
    }

    async fn configure(&self, configured: &[(String, i64, i64)]) -> Result<()> {
        use budget_account::Column;
        let rows = configured.iter().map(|(class, per_ms, limit)| budget_account::ActiveModel {
            tenant: Set(self.tenant.to_owned()),
            account: Set(self.account.to_owned()),
            class: Set(class.clone()),
            per_ms: Set(*per_ms),
            configured: Set(*limit),
            learned: Set(None),
            ..Default::default()
        });
        let changed =
            Expr::col((budget_account::Entity, Column::Configured)).ne(Expr::col(("excluded", Column::Configured)));
        budget_account::Entity::insert_many(rows)
            .on_conflict(
                OnConflict::columns([Column::Tenant, Column::Account, Column::Class, Column::PerMs])
                    .update_columns([Column::Configured, Column::Learned])
                    .action_and_where(changed)
                    .to_owned(),
            )
            .exec_without_returning(&self.tx)
            .await?;
        Ok(())
    }

    /// Stores a window as it stands now.
    pub async fn save(&self, window: &Window) -> Result<()> {
        use budget_account::Column;
        budget_account::Entity::update_many()
            .col_expr(Column::Learned, Expr::value(window.learned))
            .col_expr(Column::PacedUntil, Expr::value(window.paced_until))
            .col_expr(Column::NotBefore, Expr::value(window.not_before))
            .col_expr(Column::LearnedAt, Expr::value(window.learned_at))
            .col_expr(Column::Answers, Expr::value(window.answers))
            .filter(Column::Tenant.eq(self.tenant))
            .filter(Column::Account.eq(self.account))
            .filter(Column::Class.eq(window.class.as_str()))
            .filter(Column::PerMs.eq(window.per_ms))
            .exec(&self.tx)
            .await?;
        Ok(())
    }

    /// Counts good answers for the windows that have learned something.
    pub async fn answered(&self, n: i64) -> Result<()> {
        use budget_account::Column;
        budget_account::Entity::update_many()
            .col_expr(Column::Answers, Expr::col(Column::Answers).add(n))
            .filter(Column::Tenant.eq(self.tenant))
            .filter(Column::Account.eq(self.account))
            .filter(Column::Learned.is_not_null())
            .exec(&self.tx)
            .await?;
        Ok(())
    }

    /// Calls that a window of this class still counts: those that end after `since`.
    pub async fn used(&self, class: &str, since: Millis) -> Result<i64> {
        sum(&self.tx, self.counted(class, since)).await
    }

    /// When the earliest `excess` of the calls that a window counts have ended, in order of their ends.
    pub async fn nth_end(&self, class: &str, since: Millis, excess: i64) -> Result<Millis> {
        use budget_grant::Column;
        let rows: Vec<(Millis, i32)> = self
            .counted(class, since)
            .select_only()
            .columns([Column::UntilMs, Column::N])
            .order_by_asc(Column::UntilMs)
            .limit(excess.unsigned_abs())
            .into_tuple()
            .all(&self.tx)
            .await?;
        let mut left = excess;
        let mut end = since;
        for (until, n) in rows {
            end = until;
            left -= i64::from(n);
            if left <= 0 {
                break;
            }
        }
        Ok(end)
    }

    fn counted(&self, class: &str, since: Millis) -> Select<budget_grant::Entity> {
        counted(self.tenant, self.account, class, since)
    }

    /// Records a draw and returns its number.
    pub async fn grant(&self, grant: &Grant<'_>) -> Result<i64> {
        let row = budget_grant::ActiveModel {
            id: NotSet,
            tenant: Set(self.tenant.to_owned()),
            account: Set(self.account.to_owned()),
            class: Set(grant.class.to_owned()),
            lane: Set(grant.lane.to_owned()),
            purpose: Set(grant.purpose.to_owned()),
            connection: Set(grant.connection.to_owned()),
            run_id: Set(grant.run_id),
            holder: Set(grant.holder.to_owned()),
            n: Set(i32::try_from(grant.n).unwrap_or(i32::MAX)),
            at_ms: Set(grant.at),
            until_ms: Set(grant.until),
        };
        let done = budget_grant::Entity::insert(row).exec(&self.tx).await?;
        Ok(done.last_insert_id)
    }

    /// Corrects a draw: `n` calls were made, the last of them ended at `until`. False when it is gone.
    pub async fn settle(&self, grant: i64, n: i64, until: Millis) -> Result<bool> {
        use budget_grant::Column;
        if n == 0 {
            budget_grant::Entity::delete_by_id(grant).exec(&self.tx).await?;
            return Ok(true);
        }
        let done = budget_grant::Entity::update_many()
            .col_expr(Column::N, Expr::value(n))
            .col_expr(Column::UntilMs, Expr::value(until))
            .filter(Column::Id.eq(grant))
            .exec(&self.tx)
            .await?;
        Ok(done.rows_affected == 1)
    }

    /// Lets no draw of the account end later than `most`.
    pub async fn end_by(&self, most: Millis) -> Result<()> {
        use budget_grant::Column;
        budget_grant::Entity::update_many()
            .col_expr(Column::UntilMs, Expr::value(most))
            .filter(Column::Tenant.eq(self.tenant))
            .filter(Column::Account.eq(self.account))
            .filter(Column::UntilMs.gt(most))
            .exec(&self.tx)
            .await?;
        Ok(())
    }

    /// Drops draws that ended before `before`: no window counts them any more.
    pub async fn prune(&self, before: Millis) -> Result<()> {
        use budget_grant::Column;
        budget_grant::Entity::delete_many()
            .filter(Column::Tenant.eq(self.tenant))
            .filter(Column::Account.eq(self.account))
            .filter(Column::UntilMs.lte(before))
            .exec(&self.tx)
            .await?;
        Ok(())
    }

    /// Adds draws that ended before `before` together, one row per class and slice of time, when there are
    /// many. Each counts until the end of the last one: never less than it should.
    pub async fn compact(&self, before: Millis, slice_ms: i64) -> Result<()> {
        use budget_grant::Column;
        const MANY: u64 = 1000;
        let rows = budget_grant::Entity::find()
            .filter(Column::Tenant.eq(self.tenant))
            .filter(Column::Account.eq(self.account))
            .filter(Column::UntilMs.lte(before))
            .order_by_asc(Column::UntilMs)
            .limit(MANY)
            .all(&self.tx)
            .await?;
        if (rows.len() as u64) < MANY {
            return Ok(());
        }
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let mut slices: BTreeMap<(String, i64), budget_grant::Model> = BTreeMap::new();
        for row in rows {
            let slice = (row.class.clone(), row.until_ms.div_euclid(slice_ms));
            match slices.entry(slice) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(row);
                }
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    let sum = entry.get_mut();
                    sum.n = sum.n.saturating_add(row.n);
                    sum.until_ms = Ord::max(sum.until_ms, row.until_ms);
                }
            }
        }
        let kept: Vec<i64> = slices.values().map(|row| row.id).collect();
        let gone: Vec<i64> = ids.into_iter().filter(|id| !kept.contains(id)).collect();
        for part in gone.chunks(BATCH) {
            budget_grant::Entity::delete_many().filter(Column::Id.is_in(part.iter().copied())).exec(&self.tx).await?;
        }
        for row in slices.into_values() {
            self.settle(row.id, i64::from(row.n), row.until_ms).await?;
        }
        Ok(())
    }

    /// Adds to what a run has spent.
    pub async fn spend(&self, run_id: i64, spent: &BTreeMap<SpentKey, Tally>) -> Result<()> {
        let rows = spent.iter().map(|((connection, lane, purpose), tally)| budget_spent::ActiveModel {
            tenant: Set(self.tenant.to_owned()),
            run_id: Set(run_id),
            connection: Set(connection.clone()),
            lane: Set((*lane).to_owned()),
            purpose: Set((*purpose).to_owned()),
            n: Set(tally.n),
            limited: Set(tally.limited),
        });
        add_spent(&self.tx, rows.collect()).await
    }

    /// Ends the work on the account.
    pub async fn commit(self) -> Result<()> {
        Ok(self.tx.commit().await?)
    }
}
