//! Leases: who may work on what, across processes and machines.

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

use super::tables::lease::{ActiveModel, Column, Entity, Model};
use super::{Millis, Result, Store};

impl Store {
    /// Takes the lease `name` for `holder` and returns its epoch, or none when another holder has it.
    ///
    /// The epoch grows whenever the lease changes hands, so that a holder that slept too long can be told
    /// from the present one. Taking one's own lease again extends it.
    pub async fn lease(&self, name: &str, holder: &str, now: Millis, ttl_ms: i64) -> Result<Option<i64>> {
        let tx = self.begin().await?;
        let row = ActiveModel {
            tenant: Set(self.tenant().to_owned()),
            name: Set(name.to_owned()),
            holder: Set(holder.to_owned()),
            epoch: Set(1),
            until: Set(now + ttl_ms),
        };
        let inserted = Entity::insert(row)
            .on_conflict(OnConflict::columns([Column::Tenant, Column::Name]).do_nothing().to_owned())
            .exec_without_returning(&tx)
            .await?;
        let epoch = if inserted == 1 { Some(1) } else { self.take_over(&tx, name, holder, now, ttl_ms).await? };
        tx.commit().await?;
        Ok(epoch)
    }

    async fn take_over<C: ConnectionTrait>(
        &self,
        tx: &C,
        name: &str,
        holder: &str,
        now: Millis,
        ttl_ms: i64,
    ) -> Result<Option<i64>> {
        let id = (self.tenant().to_owned(), name.to_owned());
        let Some(row) = Entity::find_by_id(id).lock_exclusive().one(tx).await? else {
            return Ok(None);
        };
        let own = row.holder == holder;
        if row.until > now && !own {
            return Ok(None);
        }
        let epoch = if own && row.until > now { row.epoch } else { row.epoch + 1 };
        Entity::update_many()
            .col_expr(Column::Holder, Expr::value(holder))
            .col_expr(Column::Epoch, Expr::value(epoch))
            .col_expr(Column::Until, Expr::value(now + ttl_ms))
            .filter(self.lease_named(name))
            .exec(tx)
            .await?;
        Ok(Some(epoch))
    }

    /// Extends a lease that `holder` still has; false when it was lost.
    pub async fn renew_lease(&self, name: &str, holder: &str, now: Millis, ttl_ms: i64) -> Result<bool> {
        let tx = self.begin().await?;
        let done = Entity::update_many()
            .col_expr(Column::Until, Expr::value(now + ttl_ms))
            .filter(self.lease_named(name))
            .filter(Column::Holder.eq(holder))
            .filter(Column::Until.gt(now))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected == 1)
    }

    /// Gives a lease back; nothing happens when `holder` has lost it already.
    pub async fn release_lease(&self, name: &str, holder: &str) -> Result<()> {
        let tx = self.begin().await?;
        Entity::update_many()
            .col_expr(Column::Until, Expr::value(0))
            .filter(self.lease_named(name))
            .filter(Column::Holder.eq(holder))
            .exec(&tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Who took the lease last and until when; a time in the past means that nobody has it.
    pub async fn lease_holder(&self, name: &str) -> Result<Option<(String, Millis)>> {
        let row: Option<Model> = Entity::find().filter(self.lease_named(name)).one(self.reader()).await?;
        Ok(row.map(|row| (row.holder, row.until)))
    }

    fn lease_named(&self, name: &str) -> Expr {
        Column::Tenant.eq(self.tenant()).and(Column::Name.eq(name))
    }
}
