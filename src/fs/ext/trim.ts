/**
 * Telling the device which blocks are free (`ext4_trim_fs`), so that it can give their space back.
 *
 * The caller keeps everybody from allocating meanwhile, and has committed what was freed.
 */
import { Bio, REQ_OP_DISCARD } from "../../block/bio.ts";
import type { BlockDevice } from "../../block/block-device.ts";
import { FsError } from "../../lib/errno.ts";
import { isPromise } from "../../lib/maybe.ts";
import { type BlockRun, freeRunsOf } from "./used-ranges.ts";
import type { ExtWriter } from "./writer.ts";

function discard(device: BlockDevice, offsetBytes: number, lengthBytes: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const bio = new Bio(REQ_OP_DISCARD, 0, offsetBytes, ({ status, cause }) => {
      const detail = `${lengthBytes} bytes at ${offsetBytes} of ${device.name}`;
      if (status === 0) resolve();
      else reject(FsError.of(status, { syscall: "discard", detail, cause }));
    });
    bio.lengthBytes = lengthBytes;
    device.submitBio(bio);
  });
}

/**
 * Discards every free block; returns how many bytes these are. See the head of the file.
 *
 * @throws {FsError} the errno of the device
 * @throws the reason of `signal`, between two groups
 */
export async function trimFreeBlocks(ctx: ExtWriter, signal?: AbortSignal): Promise<number> {
  const { core, sb } = ctx;
  let discardedBytes = 0;
  for (let group = 0; group < sb.groupCount; group++) {
    signal?.throwIfAborted();
    const looking = freeRunsOf(core, group, signal);
    const runs: BlockRun[] = isPromise(looking) ? await looking : looking;
    for (const { first, count } of runs) {
      await discard(core.bdev, first * sb.blockBytes, count * sb.blockBytes);
      discardedBytes += count * sb.blockBytes;
    }
  }
  return discardedBytes;
}
