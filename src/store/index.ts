/**
 * The public face of this layer, for browsers too: `quirefs/store`. The file store stands apart, as
 * it needs Node.
 */
export { CountingStore, type StoreCall } from "./counting-store.ts";
export { type Fault, FaultyStore } from "./faulty-store.ts";
export type { StoreOp } from "./guard.ts";
export { MemoryStore, type MemoryStoreOptions } from "./memory-store.ts";
export type { CrashChoice } from "./sector-versions.ts";
export { SimDisk, type SimDiskOptions } from "./sim-disk.ts";
export type { FaultPlan, FaultRate, SimFault } from "./sim-faults.ts";
export type { Store, StoreCapabilities, StoreWriteOptions } from "./store.ts";
