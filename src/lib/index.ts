/** The public face of this layer: `quirefs/lib`. */
export { type Clock, realClock, type Timer, VirtualClock } from "./clock.ts";
export { crc16 } from "./crc16.ts";
export { crc32be } from "./crc32be.ts";
export { crc32c } from "./crc32c.ts";
export {
  codeOf,
  type Errno,
  type ErrnoCode,
  errnoOf,
  FsError,
  type FsErrorContext,
  hasErrnoCode,
} from "./errno.ts";
export { Errseq, type ErrseqCursor } from "./errseq.ts";
export { AsyncMutex, AsyncRwLock, WaitQueue } from "./locks.ts";
export { andThen, isPromise, type MaybeAsync } from "./maybe.ts";
export { Random } from "./random.ts";
export { type TraceEvent, type TraceListener, Tracer } from "./trace.ts";
export {
  INDEX_MAX,
  MARK_DIRTY,
  MARK_TOWRITE,
  MARK_WRITEBACK,
  type Mark,
  ORDER_MAX,
  XArray,
} from "./xarray.ts";
