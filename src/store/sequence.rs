//! Row numbers: dense, chosen by the program, so that bulk inserts need no answer from the database.

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QuerySelect};

use super::Result;
use super::tables::sequence::{ActiveModel, Column, Entity};

/// Which numbers to draw.
#[derive(Clone, Copy, Debug)]
pub enum Sequence {
    /// Records.
    Record,
    /// Entities.
    Entity,
    /// Runs.
    Run,
    /// Scans.
    Scan,
    /// Conflicts.
    Conflict,
    /// Received webhooks.
    Hook,
    /// Events.
    Event,
    /// Messages and other acts in chats.
    Message,
    /// Touches of records: see [`Store::revision`](super::Store::revision).
    Revision,
}

impl Sequence {
    fn name(self) -> &'static str {
        match self {
            Sequence::Record => "record",
            Sequence::Entity => "entity",
            Sequence::Run => "run",
            Sequence::Scan => "scan",
            Sequence::Conflict => "conflict",
            Sequence::Hook => "hook",
            Sequence::Event => "event",
            Sequence::Message => "message",
            Sequence::Revision => "revision",
        }
    }
}

/// Draws `n` numbers inside the caller's transaction and returns the first; they come back if it fails.
pub async fn draw<C: ConnectionTrait>(tx: &C, sequence: Sequence, n: i64) -> Result<i64> {
    let name = sequence.name();
    let row = ActiveModel { name: Set(name.to_owned()), next: Set(n + 1) };
    let drawn = Entity::insert(row)
        .on_conflict(
            OnConflict::column(Column::Name).value(Column::Next, Expr::col((Entity, Column::Next)).add(n)).to_owned(),
        )
        .exec_with_returning(tx)
        .await?;
    Ok(drawn.next - n)
}

/// Keeps every other writer of records waiting until the caller's transaction ends, so that what it reads of them now is
/// what it changes. On SQLite the transaction itself does.
///
/// Always before any record is touched: two who waited for each other's records would never end.
pub async fn hold_records<C: ConnectionTrait>(tx: &C) -> Result<()> {
    if tx.get_database_backend() == DbBackend::Sqlite {
        return Ok(());
    }
    let held: Option<i64> = Entity::find()
        .select_only()
        .column(Column::Next)
        .filter(Column::Name.eq(Sequence::Revision.name()))
        .lock_exclusive()
        .into_tuple()
        .one(tx)
        .await?;
    if held.is_none() {
        draw(tx, Sequence::Revision, 0).await?;
    }
    Ok(())
}

/// The number that will be drawn next.
pub async fn next<C: ConnectionTrait>(db: &C, sequence: Sequence) -> Result<i64> {
    let next: Option<i64> = Entity::find()
        .select_only()
        .column(Column::Next)
        .filter(Column::Name.eq(sequence.name()))
        .into_tuple()
        .one(db)
        .await?;
    Ok(next.unwrap_or(1))
}
