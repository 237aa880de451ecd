//! Arithmetic that never wraps: the engine's own kernels wrap whole numbers silently.
//!
//! - `+`, `-`, `*` and the sign of whole numbers become functions over checked kernels. (Those of
//!   decimals are checked already.)
//! - `sum` and `avg` of whole numbers and decimals are widened first: a sum of `bigint` is
//!   `numeric`, as in PostgreSQL, and one of `numeric` has room for more rows than there can be.

use crate::error::{SqlError, code};
use datafusion::arrow::compute::kernels::numeric::{add, mul, neg, sub};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ExprSchema, Result};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, BinaryExpr, ColumnarValue, Expr, ExprSchemable,
    GroupsAccumulator, LogicalPlan, Operator, ReversedUDAF, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr_common::datum::apply;
use std::sync::Arc;

/// Puts checked functions in the place of operators that wrap.
#[derive(Debug)]
pub(crate) struct CheckedArithmetic {
    add: Arc<ScalarUDF>,
    sub: Arc<ScalarUDF>,
    mul: Arc<ScalarUDF>,
    neg: Arc<ScalarUDF>,
}

impl CheckedArithmetic {
    pub(crate) fn new() -> Self {
        let udf = |name| Arc::new(ScalarUDF::from(Checked::new(name)));
        Self {
            add: udf("checked_add"),
            sub: udf("checked_subtract"),
            mul: udf("checked_multiply"),
            neg: udf("checked_negate"),
        }
    }

    fn replace(&self, expr: Expr, schema: &dyn ExprSchema) -> Result<Transformed<Expr>> {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let function = match op {
                    Operator::Plus => &self.add,
                    Operator::Minus => &self.sub,
                    Operator::Multiply => &self.mul,
                    _ => {
                        return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr {
                            left,
                            op,
                            right,
                        })));
                    }
                };
                let (of_left, of_right) = (left.get_type(schema)?, right.get_type(schema)?);
                if of_left != of_right || !of_left.is_integer() {
                    return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })));
                }
                Ok(Transformed::yes(function.call(vec![*left, *right])))
            }
            Expr::Negative(inner) if inner.get_type(schema)?.is_integer() => {
                Ok(Transformed::yes(self.neg.call(vec![*inner])))
            }
            other => Ok(Transformed::no(other)),
        }
    }

    fn rewrite(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let mut schema = DFSchema::empty();
        plan.inputs().iter().for_each(|input| schema.merge(input.schema()));
        let names = NamePreserver::new(&plan);
        let rewritten = plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let rewritten = expr.transform_up(|expr| self.replace(expr, &schema))?;
            Ok(rewritten.update_data(|expr| name.restore(expr)))
        })?;
        rewritten.map_data(LogicalPlan::recompute_schema)
    }
}

impl AnalyzerRule for CheckedArithmetic {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(|plan| self.rewrite(plan))?.data)
    }

    fn name(&self) -> &'static str {
        "checked_arithmetic"
    }
}

/// An operator on whole numbers of one type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    name: &'static str,
    signature: Signature,
}

impl Checked {
    fn new(name: &'static str) -> Self {
        Self { name, signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let first = types.first().cloned();
        first.ok_or_else(|| DataFusionError::Plan(format!("{} without operands", self.name)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match (self.name, args.args.as_slice()) {
            ("checked_add", [left, right]) => apply(left, right, add),
            ("checked_subtract", [left, right]) => apply(left, right, sub),
            ("checked_multiply", [left, right]) => apply(left, right, mul),
            ("checked_negate", [value]) => {
                let is_scalar = matches!(value, ColumnarValue::Scalar(_));
                let array = value.to_array(if is_scalar { 1 } else { args.number_rows })?;
                let array = neg(array.as_ref())?;
                if !is_scalar {
                    return Ok(ColumnarValue::Array(array));
                }
                let value = datafusion::common::ScalarValue::try_from_array(&array, 0)?;
                Ok(ColumnarValue::Scalar(value))
            }
            _ => Err(DataFusionError::Internal(format!("{} got other operands", self.name))),
        }
    }
}

/// `sum` or `avg` over wider values.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Widened {
    inner: Arc<AggregateUDF>,
    signature: Signature,
}

/// The aggregates that take the place of the engine's.
pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    let widened = |inner| {
        let signature = Signature::user_defined(Volatility::Immutable);
        AggregateUDF::from(Widened { inner, signature })
    };
    vec![widened(sum_udaf()), widened(avg_udaf())]
}

/// Digits that a decimal may have to be added up: 10 more always fit.
const ADDENDS_DIGITS: u8 = 69;

impl AggregateUDFImpl for Widened {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [given] = types else {
            return Err(DataFusionError::Plan(format!("{} takes one argument", self.name())));
        };
        let wide = match given {
            DataType::Null => DataType::Float64,
            given if given.is_integer() => DataType::Decimal128(20, 0),
            DataType::Decimal32(digits, places)
            | DataType::Decimal64(digits, places)
            | DataType::Decimal128(digits, places) => DataType::Decimal256(*digits, *places),
            DataType::Decimal256(digits, _) if *digits > ADDENDS_DIGITS => {
                let message =
                    format!("{} of a numeric with {digits} digits could overflow", self.name());
                let hint = format!("cast it to at most {ADDENDS_DIGITS} digits");
                return Err(SqlError::new(code::OUT_OF_RANGE, message).hint(hint).into());
            }
            DataType::Float16 | DataType::Float32 => DataType::Float64,
            DataType::Decimal256(..)
            | DataType::Float64
            | DataType::Duration(_)
            | DataType::Interval(_) => given.clone(),
            DataType::Dictionary(_, inner) => return self.coerce_types(&[inner.as_ref().clone()]),
            other => {
                let message = format!("function {}({other}) does not exist", self.name());
                return Err(SqlError::new(code::NO_FUNCTION, message).into());
            }
        };
        Ok(vec![wide])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.inner.accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        self.inner.create_sliding_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}
