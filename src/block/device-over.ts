/**
 * DeviceOver: what devices have in common that stand over another one and treat some of its
 * requests themselves, as the remapping drivers of Linux do (`dm`). All that they do not say is as
 * below; so are the counts and the log of requests, whose offsets are those of the lowest device.
 *
 *     PartitionDevice, JournalOverlayDevice, RevocableDevice .. --submitBio--> base
 */
import type { Bio } from "./bio.ts";
import type { BlockDevice, LoggedRequest } from "./block-device.ts";
import type { BlockStats } from "./block-stats.ts";
import type { Plug } from "./plug.ts";

/** See the head of the file. */
export abstract class DeviceOver implements BlockDevice {
  readonly name: string;
  protected readonly base: BlockDevice;

  /** `name` is that of `base` if left out. */
  constructor(base: BlockDevice, name: string = base.name) {
    this.name = name;
    this.base = base;
  }

  get sizeBytes(): number {
    return this.base.sizeBytes;
  }
  get logicalBlockBytes(): number {
    return this.base.logicalBlockBytes;
  }
  get isReadOnly(): boolean {
    return this.base.isReadOnly;
  }
  get ioPages(): number {
    return this.base.ioPages;
  }
  get stableWrites(): boolean {
    return this.base.stableWrites;
  }
  get allocatesOnWrite(): boolean {
    return this.base.allocatesOnWrite ?? false;
  }
  get stats(): BlockStats {
    return this.base.stats;
  }
  get log(): ((request: LoggedRequest) => void) | undefined {
    return this.base.log;
  }
  set log(hook: ((request: LoggedRequest) => void) | undefined) {
    this.base.log = hook;
  }

  abstract submitBio(bio: Bio, plug?: Plug): void;
}
