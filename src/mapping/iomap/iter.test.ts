import { expect, test } from "vitest";
import { M, ScriptFs } from "../../../test/support/script-fs.ts";
import { IOMAP_F_STALE, IOMAP_HOLE } from "./iomap.ts";
import {
  createIomapIter,
  type IomapBody,
  iomapIterAdvance,
  iomapIterate,
  iomapIterSrcmap,
  iomapLength,
} from "./iter.ts";

function iterate(fs: ScriptFs, lengthBytes: number, body: IomapBody): void {
  const iter = createIomapIter({ inode: fs.inode, posBytes: 0, lengthBytes, flags: 0 });
  expect(iomapIterate(iter, fs, body)).toBeUndefined();
}

test("both mappings come empty to every begin", () => {
  const fs = new ScriptFs([M(0, 4096), M(4096, 8192)], { sizeBytes: 8192 });
  fs.onBegin = ({ posBytes, srcmap }) => {
    expect(srcmap.type).toBe(IOMAP_HOLE);
    if (posBytes === 0) Object.assign(srcmap, M(0, 1024), { bdev: fs.device });
  };
  const lengths: number[] = [];
  iterate(fs, 8192, (iter) => {
    lengths.push(iomapLength(iter));
    iomapIterAdvance(iter, iomapLength(iter));
  });
  expect(lengths).toEqual([1024, 3072, 4096]);
});

test("old data comes from the source mapping if there is one", () => {
  const fs = new ScriptFs([M(0, 4096)], { sizeBytes: 4096 });
  let sources = 0;
  iterate(fs, 4096, (iter) => {
    if (iomapIterSrcmap(iter) === iter.iomap) sources++;
    Object.assign(iter.srcmap, M(0, 4096));
    if (iomapIterSrcmap(iter) === iter.srcmap) sources++;
  });
  expect(sources).toBe(2);
});

test("progress between stale mappings keeps the iteration alive", () => {
  const fs = new ScriptFs([M(0, 4096)], { sizeBytes: 4096 });
  let count = 0;
  iterate(fs, 4096, (iter) => {
    if (++count % 600 === 0) iomapIterAdvance(iter, 1024);
    else iter.iomap.flags |= IOMAP_F_STALE;
  });
  expect(count).toBe(2400);
});

test("a range of no length asks nothing", () => {
  const fs = new ScriptFs([M(0, 4096)], { sizeBytes: 4096 });
  iterate(fs, 0, () => {});
  expect(fs.calls).toEqual([]);
});
