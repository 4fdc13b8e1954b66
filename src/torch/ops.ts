// The operators we use, ATen's and one of our own, one typed row each. The text is libtorch's own schema (SymInt written as int); a test
// compares every row with the libtorch at hand, so an upgrade that changes one shows as a readable difference.
// Results belong to the innermost scope. A trailing underscore: in place, and the same handle comes back.
import { native, type OpArgument } from "./binding.js";
import type { DType, Tensor } from "./tensor.js";

type T = Tensor;
type N = number;

/** Every row by its schema, for the test that compares them. */
export const rows: string[] = [];

// Looked up at the first call, so that a row costs nothing until it is used.
function op<F extends (...args: never[]) => unknown>(schema: string): F {
  rows.push(schema);
  const name = schema.slice(0, schema.indexOf("("));
  let call: ((...args: OpArgument[]) => unknown) | undefined;
  return ((...args: OpArgument[]) => (call ??= native.op(name))(...args)) as unknown as F;
}

/** Whether this libtorch has an operator, by name with overload. */
export const hasOp = (name: string): boolean => native.hasOp(name);
/** libtorch's schema of an operator, or null. */
export const schemaOf = (name: string): string | null => native.schema(name);

// products
export const mm = op<(a: T, b: T) => T>("aten::mm(Tensor self, Tensor mat2) -> Tensor");
export const bmm = op<(a: T, b: T) => T>("aten::bmm(Tensor self, Tensor mat2) -> Tensor");
export const baddbmm = op<(self: T, a: T, b: T, beta: N, alpha: N) => T>("aten::baddbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1) -> Tensor");
export const addmm = op<(self: T, a: T, b: T, beta: N, alpha: N) => T>("aten::addmm(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1) -> Tensor");
export const linalgEigh = op<(a: T) => [values: T, vectors: T]>("aten::linalg_eigh(Tensor self, str UPLO=\"L\") -> (Tensor eigenvalues, Tensor eigenvectors)");
export const linear = op<(x: T, weight: T, bias?: T | null) => T>("aten::linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor");
/** y_RD = (silu(x Wg') * (x Wu')) Wd' of rows sorted by expert, with stacked gate and up [2F, D], down [D, F] in any dtype, cast one at a time, and the number of rows of each expert (native/grouped_swiglu.cpp). */
export const groupedSwiglu = op<(x: T, gateUp: T[], down: T[], rows: N[]) => T>("revmoe::grouped_swiglu(Tensor x, Tensor[] gate_up, Tensor[] down, int[] rows) -> Tensor");
/** The same, whose backward pass makes no gradients of weights and leaves in `kept` what they are made of: rows of the gradient of both inner products [R, 2F], of the inner product [R, F], and dy [R, D]. */
export const groupedSwigluKeep = op<(x: T, gateUp: T[], down: T[], rows: N[], kept: T[]) => T>("revmoe::grouped_swiglu_keep(Tensor x, Tensor[] gate_up, Tensor[] down, int[] rows, Tensor[] kept) -> Tensor");
/** sums[i] = dy_e' x_e, or with `add` += of it, of the experts e from `first` on; rows are sorted by all experts (native/grouped_swiglu.cpp). */
export const expertGradients_ = op<(sums: T[], dy: T, x: T, rows: N[], first: N, add: boolean) => void>("revmoe::expert_gradients_(Tensor(a!)[] sums, Tensor dy, Tensor x, int[] rows, int first, bool add) -> ()");
export const outer = op<(a: T, b: T) => T>("aten::outer(Tensor self, Tensor vec2) -> Tensor");

// arithmetic
export const add = op<(a: T, b: T, alpha?: N) => T>("aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor");
export const add_ = op<(a: T, b: T, alpha?: N) => T>("aten::add_.Tensor(Tensor(a!) self, Tensor other, *, Scalar alpha=1) -> Tensor(a!)");
export const addScalar = op<(a: T, b: N) => T>("aten::add.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor");
export const addScalar_ = op<(a: T, b: N) => T>("aten::add_.Scalar(Tensor(a!) self, Scalar other, Scalar alpha=1) -> Tensor(a!)");
export const sub = op<(a: T, b: T) => T>("aten::sub.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor");
export const sub_ = op<(a: T, b: T, alpha?: N) => T>("aten::sub_.Tensor(Tensor(a!) self, Tensor other, *, Scalar alpha=1) -> Tensor(a!)");
export const mul = op<(a: T, b: T) => T>("aten::mul.Tensor(Tensor self, Tensor other) -> Tensor");
export const mul_ = op<(a: T, b: T) => T>("aten::mul_.Tensor(Tensor(a!) self, Tensor other) -> Tensor(a!)");
export const mulScalar = op<(a: T, b: N) => T>("aten::mul.Scalar(Tensor self, Scalar other) -> Tensor");
export const mulScalar_ = op<(a: T, b: N) => T>("aten::mul_.Scalar(Tensor(a!) self, Scalar other) -> Tensor(a!)");
export const div = op<(a: T, b: T) => T>("aten::div.Tensor(Tensor self, Tensor other) -> Tensor");
export const div_ = op<(a: T, b: T) => T>("aten::div_.Tensor(Tensor(a!) self, Tensor other) -> Tensor(a!)");
export const neg_ = op<(a: T) => T>("aten::neg_(Tensor(a!) self) -> Tensor(a!)");
export const sign_ = op<(a: T) => T>("aten::sign_(Tensor(a!) self) -> Tensor(a!)");
export const tanh_ = op<(a: T) => T>("aten::tanh_(Tensor(a!) self) -> Tensor(a!)");
export const neg = op<(a: T) => T>("aten::neg(Tensor self) -> Tensor");
export const abs = op<(a: T) => T>("aten::abs(Tensor self) -> Tensor");
export const sqrt = op<(a: T) => T>("aten::sqrt(Tensor self) -> Tensor");
export const rsqrt = op<(a: T) => T>("aten::rsqrt(Tensor self) -> Tensor");
export const square = op<(a: T) => T>("aten::square(Tensor self) -> Tensor");
export const cos = op<(a: T) => T>("aten::cos(Tensor self) -> Tensor");
export const sin = op<(a: T) => T>("aten::sin(Tensor self) -> Tensor");
export const log = op<(a: T) => T>("aten::log(Tensor self) -> Tensor");
export const reciprocal = op<(a: T) => T>("aten::reciprocal(Tensor self) -> Tensor");
export const exp_ = op<(a: T) => T>("aten::exp_(Tensor(a!) self) -> Tensor(a!)");
export const silu = op<(a: T) => T>("aten::silu(Tensor self) -> Tensor");
export const sigmoid = op<(a: T) => T>("aten::sigmoid(Tensor self) -> Tensor");
export const maximum = op<(a: T, b: T) => T>("aten::maximum(Tensor self, Tensor other) -> Tensor");
export const lerp_ = op<(self: T, end: T, weight: N) => T>("aten::lerp_.Scalar(Tensor(a!) self, Tensor end, Scalar weight) -> Tensor(a!)");
export const addcmul_ = op<(self: T, a: T, b: T, value?: N) => T>("aten::addcmul_(Tensor(a!) self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor(a!)");
export const addcdiv_ = op<(self: T, a: T, b: T, value?: N) => T>("aten::addcdiv_(Tensor(a!) self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor(a!)");

// whole numbers: rounding, bits, shifts (arithmetic on signed types)
export const round_ = op<(a: T) => T>("aten::round_(Tensor(a!) self) -> Tensor(a!)");
export const clamp = op<(a: T, min: N | null, max?: N | null) => T>("aten::clamp(Tensor self, Scalar? min=None, Scalar? max=None) -> Tensor");
export const clamp_ = op<(a: T, min: N | null, max: N | null) => T>("aten::clamp_(Tensor(a!) self, Scalar? min=None, Scalar? max=None) -> Tensor(a!)");
export const bitAnd = op<(a: T, b: N) => T>("aten::bitwise_and.Scalar(Tensor self, Scalar other) -> Tensor");
export const bitAnd_ = op<(a: T, b: N) => T>("aten::bitwise_and_.Scalar(Tensor(a!) self, Scalar other) -> Tensor(a!)");
export const bitOr_ = op<(a: T, b: T) => T>("aten::bitwise_or_.Tensor(Tensor(a!) self, Tensor other) -> Tensor(a!)");
export const bitXor = op<(a: T, b: N) => T>("aten::bitwise_xor.Scalar(Tensor self, Scalar other) -> Tensor");
export const shiftLeft = op<(a: T, bits: N) => T>("aten::__lshift__.Scalar(Tensor self, Scalar other) -> Tensor");
export const shiftLeft_ = op<(a: T, bits: N) => T>("aten::__ilshift__.Scalar(Tensor(a!) self, Scalar other) -> Tensor(a!)");
export const shiftRight = op<(a: T, bits: N) => T>("aten::__rshift__.Scalar(Tensor self, Scalar other) -> Tensor");
export const floorDivide = op<(a: T, b: T) => T>("aten::floor_divide(Tensor self, Tensor other) -> Tensor");

// reductions and comparisons
/** Sum of the squares of a dense float32 tensor on a CPU, in float64 (native/update_passes.cpp). */
export const squareSum = op<(x: T) => N>("revmoe::square_sum(Tensor x) -> float");
export const sum = op<(a: T) => T>("aten::sum(Tensor self, *, ScalarType? dtype=None) -> Tensor");
export const sumDim = op<(a: T, dims: N[], keepdim?: boolean, dtype?: DType) => T>("aten::sum.dim_IntList(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor");
export const meanDim = op<(a: T, dims: N[], keepdim?: boolean) => T>("aten::mean.dim(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor");
export const amax = op<(a: T, dims?: N[], keepdim?: boolean) => T>("aten::amax(Tensor self, int[1] dim=[], bool keepdim=False) -> Tensor");
export const amin = op<(a: T, dims?: N[], keepdim?: boolean) => T>("aten::amin(Tensor self, int[1] dim=[], bool keepdim=False) -> Tensor");
export const aminmax = op<(a: T) => [least: T, most: T]>("aten::aminmax(Tensor self, *, int? dim=None, bool keepdim=False) -> (Tensor min, Tensor max)");
export const isNan = op<(a: T) => T>("aten::isnan(Tensor self) -> Tensor");
export const isInf = op<(a: T) => T>("aten::isinf(Tensor self) -> Tensor");
export const logsumexp = op<(a: T, dims: N[], keepdim?: boolean) => T>("aten::logsumexp(Tensor self, int[1] dim, bool keepdim=False) -> Tensor");
export const softmax = op<(a: T, dim: N, dtype?: DType) => T>("aten::softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor");
export const topk = op<(a: T, k: N, dim: N) => [values: T, indices: T]>("aten::topk(Tensor self, int k, int dim=-1, bool largest=True, bool sorted=True) -> (Tensor values, Tensor indices)");
export const sortStable = op<(a: T, stable: true, dim: N, descending?: boolean) => [values: T, indices: T]>("aten::sort.stable(Tensor self, *, bool? stable, int dim=-1, bool descending=False) -> (Tensor values, Tensor indices)");
export const bincount = op<(a: T, weights: null, minLength: N) => T>("aten::bincount(Tensor self, Tensor? weights=None, int minlength=0) -> Tensor");
export const gt = op<(a: T, b: T) => T>("aten::gt.Tensor(Tensor self, Tensor other) -> Tensor");
export const lt = op<(a: T, b: N) => T>("aten::lt.Scalar(Tensor self, Scalar other) -> Tensor");
/** sqrt(sum of squares), of everything or along some dimensions. */
export const vectorNorm = op<(x: T, order: 2, dims?: N[] | null) => T>("aten::linalg_vector_norm(Tensor self, Scalar ord=2, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor");
export const equal = op<(a: T, b: T) => boolean>("aten::equal(Tensor self, Tensor other) -> bool");

// rows by index
export const embedding = op<(weight: T, indices: T) => T>("aten::embedding(Tensor weight, Tensor indices, int padding_idx=-1, bool scale_grad_by_freq=False, bool sparse=False) -> Tensor");
export const indexSelect = op<(a: T, dim: N, index: T) => T>("aten::index_select(Tensor self, int dim, Tensor index) -> Tensor");
export const indexAdd_ = op<(self: T, dim: N, index: T, source: T) => T>("aten::index_add_(Tensor(a!) self, int dim, Tensor index, Tensor source, *, Scalar alpha=1) -> Tensor(a!)");
export const indexCopy_ = op<(self: T, dim: N, index: T, source: T) => T>("aten::index_copy_(Tensor(a!) self, int dim, Tensor index, Tensor source) -> Tensor(a!)");
export const gather = op<(a: T, dim: N, index: T) => T>("aten::gather(Tensor self, int dim, Tensor index, *, bool sparse_grad=False) -> Tensor");
export const scatterAdd_ = op<(self: T, dim: N, index: T, source: T) => T>("aten::scatter_add_(Tensor(a!) self, int dim, Tensor index, Tensor src) -> Tensor(a!)");
export const tril = op<(a: T, diagonal?: N) => T>("aten::tril(Tensor self, int diagonal=0) -> Tensor");
export const triu = op<(a: T, diagonal?: N) => T>("aten::triu(Tensor self, int diagonal=0) -> Tensor");

// shape and storage
export const view = op<(a: T, size: N[]) => T>("aten::view(Tensor(a) self, int[] size) -> Tensor(a)");
export const reshape = op<(a: T, size: N[]) => T>("aten::reshape(Tensor(a) self, int[] shape) -> Tensor(a)");
export const viewDtype = op<(a: T, dtype: DType) => T>("aten::view.dtype(Tensor(a) self, ScalarType dtype) -> Tensor(a)");
export const cast = op<(a: T, dtype: DType, nonBlocking?: boolean, copy?: boolean) => T>("aten::to.dtype(Tensor(a) self, ScalarType dtype, bool non_blocking=False, bool copy=False, MemoryFormat? memory_format=None) -> Tensor(a)");
export const contiguous = op<(a: T) => T>("aten::contiguous(Tensor(a) self, *, MemoryFormat memory_format=0) -> Tensor(a)");
export const clone = op<(a: T) => T>("aten::clone(Tensor self, *, MemoryFormat? memory_format=None) -> Tensor");
export const copy_ = op<(self: T, source: T) => T>("aten::copy_(Tensor(a!) self, Tensor src, bool non_blocking=False) -> Tensor(a!)");
export const fill_ = op<(a: T, value: N) => T>("aten::fill_.Scalar(Tensor(a!) self, Scalar value) -> Tensor(a!)");
export const cat = op<(tensors: T[], dim?: N) => T>("aten::cat(Tensor[] tensors, int dim=0) -> Tensor");
export const narrow = op<(a: T, dim: N, start: N, length: N) => T>("aten::narrow(Tensor(a) self, int dim, int start, int length) -> Tensor(a)");
export const select = op<(a: T, dim: N, index: N) => T>("aten::select.int(Tensor(a) self, int dim, int index) -> Tensor(a)");
export const unbind = op<(a: T, dim?: N) => T[]>("aten::unbind.int(Tensor(a -> *) self, int dim=0) -> Tensor(a)[]");
export const transpose = op<(a: T, dim0: N, dim1: N) => T>("aten::transpose.int(Tensor(a) self, int dim0, int dim1) -> Tensor(a)");
export const expand = op<(a: T, size: N[]) => T>("aten::expand(Tensor(a) self, int[] size, *, bool implicit=False) -> Tensor(a)");
export const unsqueeze = op<(a: T, dim: N) => T>("aten::unsqueeze(Tensor(a) self, int dim) -> Tensor(a)");

// random
export const normal_ = op<(a: T, mean: N, std: N) => T>("aten::normal_(Tensor(a!) self, float mean=0., float std=1., *, Generator? generator=None) -> Tensor(a!)");
export const uniform_ = op<(a: T, from: N, to: N) => T>("aten::uniform_(Tensor(a!) self, float from=0., float to=1., *, Generator? generator=None) -> Tensor(a!)");
export const random_ = op<(a: T, from: N | bigint, to: N | null) => T>("aten::random_.from(Tensor(a!) self, int from, int? to, *, Generator? generator=None) -> Tensor(a!)");

/** Operators that newer libtorch versions have; ask `hasOp` first, a tested fallback stands beside each use. */
export const newer: string[] = [];
function newerOp<F extends (...args: never[]) => unknown>(schema: string): F {
  newer.push(schema);
  const made = op<F>(schema);
  rows.pop();
  return made;
}
export const flashAttention = newerOp<(q: T, k: T, v: T, mask: T | null, dropout: 0, causal: boolean) => T>("aten::scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float dropout_p=0., bool is_causal=False, *, float? scale=None, bool enable_gqa=False) -> Tensor");
/** out = self + a b in float32, of factors in bfloat16 or float16; on CUDA alone. */
export const addmmWide = newerOp<(self: T, a: T, b: T, type: "float32", beta: N, alpha: N, out: T) => T>("aten::addmm.dtype_out(Tensor self, Tensor mat1, Tensor mat2, ScalarType out_dtype, *, Scalar beta=1, Scalar alpha=1, Tensor(a!) out) -> Tensor(a!)");
/** adamw_ of whole lists in one kernel, with the number of steps as float32 tensors. */
export const fusedAdamw_ = newerOp<(w: T[], g: T[], m: T[], v: T[], most: T[], steps: T[], rate: N, beta1: N, beta2: N, decay: N, epsilon: N, amsgrad: false, maximize: false) => void>("aten::_fused_adamw_(Tensor(a!)[] self, Tensor(b!)[] grads, Tensor(c!)[] exp_avgs, Tensor(d!)[] exp_avg_sqs, Tensor(e!)[] max_exp_avg_sqs, Tensor[] state_steps, *, float lr, float beta1, float beta2, float weight_decay, float eps, bool amsgrad, bool maximize, Tensor? grad_scale=None, Tensor? found_inf=None) -> ()");

// updates, in one pass on a CPU (native/update_passes.cpp)
/** bits(into) = (bits(value) + (noise ^ mask)) >> 16, of float32 to bfloat16 on a CPU, with 16 random bits in each int32 of noise. */
export const roundStochastically_ = op<(into: T, value: T, noise: T, mask: N) => void>("revmoe::round_stochastically_(Tensor(a!) into, Tensor value, Tensor noise, int mask) -> ()");
/** m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2;  w = keep w - rate m / (scale sqrt(v) + epsilon), all dense float32. */
export const adamw_ = op<(w: T, m: T, v: T, g: T, beta1: N, beta2: N, epsilon: N, keep: N, rate: N, scale: N) => void>("revmoe::adamw_(Tensor(a!) w, Tensor(b!) m, Tensor(c!) v, Tensor g, float beta1, float beta2, float epsilon, float keep, float rate, float scale) -> ()");
/** into = code[q] * scale of its block of 256 elements. */
export const decodeBlocks_ = op<(into: T, q: T, scale: T, code: T) => void>("revmoe::decode_blocks_(Tensor(a!) into, Tensor q, Tensor scale, Tensor code) -> ()");
/** scale = the largest magnitude of a block;  q = first[upper 16 bits of x / scale], or the next code where x / scale is above its bound. */
export const encodeBlocks_ = op<(q: T, scale: T, x: T, first: T, bounds: T) => void>("revmoe::encode_blocks_(Tensor(a!) q, Tensor(b!) scale, Tensor x, Tensor first, Tensor bounds) -> ()");
/** Of a matrix g: means of g^2 + floor over the columns, and sums over the rows. */
export const factoredSquares_ = op<(rowMeans: T, columnSums: T, g: T, floor: N) => void>("revmoe::factored_squares_(Tensor(a!) row_means, Tensor(b!) column_sums, Tensor g, float floor) -> ()");
/** g_ij *= rows_i columns_j; returns the sum of the squares of what comes out. */
export const scaleMatrix_ = op<(g: T, rows: T, columns: T) => N>("revmoe::scale_matrix_(Tensor(a!) g, Tensor rows, Tensor columns) -> float");
