/** What the cases of iomap do again and again. */
import type { FsError } from "../../src/lib/errno.ts";
import { iomapFiemap } from "../../src/mapping/iomap/fiemap.ts";
import type { IomapWriteSource } from "../../src/mapping/iomap/write-ops.ts";
import type { ScriptFs } from "./script-fs.ts";

/** A source of `lengthBytes` bytes of `value`, of which only `readableBytes` are there. */
export function shortSource(
  lengthBytes: number,
  readableBytes: number,
  value = 0x77,
): IomapWriteSource {
  return {
    lengthBytes,
    prepare: (fromBytes, wantedBytes) =>
      Math.min(wantedBytes, Math.max(0, readableBytes - fromBytes)),
    copy(fromBytes, into) {
      const countBytes = Math.min(into.length, Math.max(0, readableBytes - fromBytes));
      into.fill(value, 0, countBytes);
      return countBytes;
    },
  };
}

/** The extents as the cases write them: `4096+1024 flags`. */
export async function extentsOf(fs: ScriptFs, flags = 0): Promise<string[]> {
  const request = { startBytes: 0, lengthBytes: Infinity, maxExtents: 100, flags };
  const { extents } = await iomapFiemap(fs.inode, fs.mapping, request, fs);
  return extents.map((each) => `${each.logicalBytes}+${each.lengthBytes} ${each.flags}`);
}

/** Code of what `action` throws or rejects with. */
export async function codeOf(action: () => unknown): Promise<string> {
  try {
    await action();
  } catch (thrown) {
    return (thrown as FsError).code;
  }
  throw new Error("nothing was thrown");
}
