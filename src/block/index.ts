/**
 * The block layer: bios in, few large requests to a store out; and the partitions of a device.
 */
export {
  BIO_MAX_VECTORS,
  Bio,
  cloneBio,
  type EndIo,
  endBio,
  REQ_BACKGROUND,
  REQ_FUA,
  REQ_META,
  REQ_OP_DISCARD,
  REQ_OP_FLUSH,
  REQ_OP_READ,
  REQ_OP_WRITE,
  REQ_OP_WRITE_ZEROES,
  REQ_PREFLUSH,
  REQ_RAHEAD,
  REQ_SYNC,
  type RequestOp,
} from "./bio.ts";
export {
  type BlockDevice,
  type LoggedRequest,
  readDevice,
  StoreBlockDevice,
  type StoreBlockDeviceOptions,
} from "./block-device.ts";
export type { BlockStats, OpStats } from "./block-stats.ts";
export type { Partition, PartitionTable } from "./partition.ts";
export { type DeviceRange, PartitionDevice } from "./partition-device.ts";
export { readPartitions } from "./partitions.ts";
export { PLUG_MAX_BIOS, Plug, type PlugTarget } from "./plug.ts";
