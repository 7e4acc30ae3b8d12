//! Received webhooks: on disk before they are answered, done once their records have been read again.

use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DeriveActiveEnum, EntityTrait, EnumIter, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde_json::Value;

use super::json::{from_text, to_text};
use super::sequence::{Sequence, draw};
use super::tables::hook::{ActiveModel, Column, Entity, Model};
use super::{BATCH, Millis, Result, Store, StoreError, of_tenant};

/// Where a received webhook stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum HookState {
    /// Its records are still to be read.
    Pending,
    /// They were read.
    Done,
    /// They could not be read, and trying again is left to a person.
    Failed,
}

impl HookState {
    /// The word that the store and people use.
    pub fn as_str(self) -> &'static str {
        match self {
            HookState::Pending => "pending",
            HookState::Done => "done",
            HookState::Failed => "failed",
        }
    }

    /// The state of that name.
    pub fn named(name: &str) -> Option<HookState> {
        [HookState::Pending, HookState::Done, HookState::Failed].into_iter().find(|state| state.as_str() == name)
    }
}

/// A received webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    /// Number of the delivery.
    pub id: i64,
    /// The connection it came to.
    pub connection: String,
    /// When it came.
    pub received_at: Millis,
    /// What it says has changed.
    pub hints: Value,
    /// As it came.
    pub body: String,
    /// Where it stands.
    pub state: HookState,
    /// How often its records were asked for in vain.
    pub attempts: i32,
    /// Why it failed.
    pub error: Option<String>,
}

/// A webhook whose records are to be read now.
#[derive(Clone, Debug, PartialEq)]
pub struct DueHook {
    /// Number of the delivery.
    pub id: i64,
    /// When it came.
    pub received_at: Millis,
    /// What it says has changed.
    pub hints: Value,
    /// How often its records were asked for in vain.
    pub attempts: i32,
}

/// A delivery that is to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewHook {
    /// The connection it came to.
    pub connection: String,
    /// What it says has changed.
    pub hints: Value,
    /// As it came.
    pub body: String,
}

impl Store {
    /// Stores deliveries, all in one commit; when this returns they are on disk.
    pub async fn receive(&self, hooks: &[NewHook], now: Millis) -> Result<()> {
        let Ok(n @ 1..) = i64::try_from(hooks.len()) else { return Ok(()) };
        let tx = self.begin_next().await?;
        let first = draw(&tx, Sequence::Hook, n).await?;
        let rows = (first..).zip(hooks).map(|(id, hook)| ActiveModel {
            id: Set(id),
            tenant: Set(self.tenant().to_owned()),
            connection: Set(hook.connection.clone()),
            received_at: Set(now),
            hints: Set(to_text(&hook.hints)),
            body: Set(hook.body.clone()),
            state: Set(HookState::Pending),
            attempts: Set(0),
            not_before: Set(0),
            done_at: Set(None),
            error: Set(None),
        });
        Entity::insert_many(rows).exec_without_returning(&tx).await?;
        Ok(tx.commit().await?)
    }

    /// The oldest deliveries to a connection whose records are to be read now.
    pub async fn next_hooks(&self, connection: &str, now: Millis, limit: u64) -> Result<Vec<DueHook>> {
        let rows: Vec<(i64, Millis, String, i32)> = Entity::find()
            .select_only()
            .columns([Column::Id, Column::ReceivedAt, Column::Hints, Column::Attempts])
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::State.eq(HookState::Pending))
            .filter(Column::Connection.eq(connection))
            .filter(Column::NotBefore.lte(now))
            .order_by_asc(Column::Id)
            .limit(limit)
            .into_tuple()
            .all(self.reader())
            .await?;
        let read = |(id, received_at, hints, attempts): (i64, Millis, String, i32)| {
            Ok(DueHook { hints: from_text("delivery", &id.to_string(), &hints)?, id, received_at, attempts })
        };
        rows.into_iter().map(read).collect()
    }

    /// A page of deliveries above a number, oldest first.
    pub async fn hooks(&self, state: Option<HookState>, after: i64, limit: u64) -> Result<Vec<Hook>> {
        let mut found = Entity::find().filter(Column::Tenant.eq(self.tenant())).filter(Column::Id.gt(after));
        if let Some(state) = state {
            found = found.filter(Column::State.eq(state));
        }
        let rows = found.order_by_asc(Column::Id).limit(limit).all(self.reader()).await?;
        rows.into_iter().map(Hook::try_from).collect()
    }

    /// How many deliveries there are above a number.
    pub async fn count_hooks_after(&self, state: Option<HookState>, after: i64) -> Result<u64> {
        let mut found = Entity::find().filter(Column::Tenant.eq(self.tenant())).filter(Column::Id.gt(after));
        if let Some(state) = state {
            found = found.filter(Column::State.eq(state));
        }
        Ok(found.count(self.reader()).await?)
    }

    /// When the oldest delivery came whose records are still to be read.
    pub async fn oldest_hook(&self) -> Result<Option<Millis>> {
        let row = Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::State.eq(HookState::Pending))
            .order_by_asc(Column::Id)
            .one(self.reader())
            .await?;
        Ok(row.map(|row| row.received_at))
    }

    /// How many deliveries stand in a state.
    pub async fn count_hooks(&self, state: HookState) -> Result<u64> {
        let found = Entity::find().filter(Column::Tenant.eq(self.tenant())).filter(Column::State.eq(state));
        Ok(found.count(self.reader()).await?)
    }

    /// Their records were read.
    pub async fn hooks_done(&self, ids: &[i64], now: Millis) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let tx = self.begin().await?;
        for part in ids.chunks(BATCH) {
            Entity::update_many()
                .col_expr(Column::State, Expr::value(HookState::Done))
                .col_expr(Column::DoneAt, Expr::value(now))
                .filter(of_tenant(Column::Tenant, self.tenant()))
                .filter(Column::Id.is_in(part.iter().copied()))
                .exec(&tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// A delivery's records could not be read: again at `not_before`, or never without it.
    pub async fn hook_failed(&self, id: i64, error: &str, not_before: Option<Millis>) -> Result<()> {
        let tx = self.begin().await?;
        let state = if not_before.is_some() { HookState::Pending } else { HookState::Failed };
        Entity::update_many()
            .col_expr(Column::State, Expr::value(state))
            .col_expr(Column::NotBefore, Expr::value(not_before.unwrap_or_default()))
            .col_expr(Column::Error, Expr::value(error))
            .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Id.eq(id))
            .exec(&tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Reads a delivery's records once more, with as many attempts as a new one has.
    pub async fn replay_hook(&self, id: i64) -> Result<()> {
        let tx = self.begin().await?;
        let done = Entity::update_many()
            .col_expr(Column::State, Expr::value(HookState::Pending))
            .col_expr(Column::NotBefore, Expr::value(0))
            .col_expr(Column::Attempts, Expr::value(0))
            .col_expr(Column::Error, Expr::value(None::<String>))
            .col_expr(Column::DoneAt, Expr::value(None::<Millis>))
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Id.eq(id))
            .exec(&tx)
            .await?;
        if done.rows_affected == 0 {
            return Err(StoreError::NotFound { what: "delivery", id: id.to_string() });
        }
        Ok(tx.commit().await?)
    }

    /// Forgets deliveries that were done before a time.
    pub async fn prune_hooks(&self, before: Millis) -> Result<u64> {
        let tx = self.begin().await?;
        let gone = Entity::delete_many()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::State.eq(HookState::Done))
            .filter(Column::DoneAt.lt(before))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(gone.rows_affected)
    }
}

impl TryFrom<Model> for Hook {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Hook> {
        Ok(Hook {
            hints: from_text("delivery", &row.id.to_string(), &row.hints)?,
            id: row.id,
            connection: row.connection,
            received_at: row.received_at,
            body: row.body,
            state: row.state,
            attempts: row.attempts,
            error: row.error,
        })
    }
}
