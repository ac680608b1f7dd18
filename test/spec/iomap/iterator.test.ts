/**
 * Cases I1 to I9: the iterator's bookkeeping, with bodies made for the case. Each runs twice: with
 * `begin`, body and `end` that finish at once, and with ones that wait.
 */
import { expect, test } from "vitest";
import { FsError } from "../../../src/lib/errno.ts";
import { isPromise, type MaybeAsync } from "../../../src/lib/maybe.ts";
import {
  IOMAP_F_NEW,
  IOMAP_F_SHARED,
  IOMAP_F_STALE,
  IOMAP_MAPPED,
  IOMAP_WRITE,
} from "../../../src/mapping/iomap/iomap.ts";
import {
  createIomapIter,
  type IomapBody,
  type IomapIter,
  iomapIterAdvance,
  iomapIterate,
  iomapLength,
} from "../../../src/mapping/iomap/iter.ts";
import { M, ScriptFs, type ScriptMapping, scriptMapping } from "../../support/script-fs.ts";

const WHEN = ["at once", "later"] as const;
type When = (typeof WHEN)[number];

function scriptOf(...mappings: ScriptMapping[]): ScriptFs {
  return new ScriptFs(mappings, { sizeBytes: 65536 });
}

function iterOf(fs: ScriptFs, posBytes: number, lengthBytes: number, flags = 0): IomapIter {
  return createIomapIter({ inode: fs.inode, posBytes, lengthBytes, flags });
}

/** One step of a body: advance so far, then throw. */
interface Step {
  readonly advance?: number;
  readonly stale?: boolean;
  readonly fail?: Error;
}

/** A body that takes the next of `steps` for each mapping, and then does nothing. */
function bodyOf(...steps: Step[]): IomapBody {
  let at = 0;
  return (iter) => {
    const { advance = 0, stale = false, fail } = steps[at++] ?? {};
    if (stale) iter.iomap.flags |= IOMAP_F_STALE;
    iomapIterAdvance(iter, advance);
    if (fail !== undefined) throw fail;
  };
}

/** Iterates with all hooks at once or all of them late, and returns what was thrown. */
async function iterate(
  fs: ScriptFs,
  iter: IomapIter,
  body: IomapBody,
  when: When,
): Promise<unknown> {
  let done: MaybeAsync<void>;
  if (when === "later") {
    const { onBegin, onEnd } = fs;
    fs.onBegin = async (call) => onBegin?.(call);
    fs.onEnd = async (posBytes, writtenBytes) => onEnd?.(posBytes, writtenBytes);
    done = iomapIterate(iter, fs, async (at) => body(at));
    expect(isPromise(done)).toBe(true);
    return Promise.resolve(done).catch((thrown: unknown) => thrown);
  }
  try {
    done = iomapIterate(iter, fs, body);
  } catch (thrown) {
    return thrown;
  }
  expect(isPromise(done)).toBe(false);
  return undefined;
}

const bodyError = new FsError("EIO", { detail: "of the body" });
const endError = new FsError("ENOSPC", { detail: "of end" });

test.each(WHEN)(
  "I1 begin is asked for what is left, end is told what was done (%s)",
  async (when) => {
    const fs = scriptOf(M(0, 4096), M(4096, 12288));
    const lengths: number[] = [];
    const body: IomapBody = (iter) => {
      lengths.push(iomapLength(iter));
      iomapIterAdvance(iter, iomapLength(iter));
    };
    const iter = iterOf(fs, 0, 10000);
    expect(await iterate(fs, iter, body, when)).toBeUndefined();
    expect(lengths).toEqual([4096, 5904]);
    expect(fs.calls).toEqual([
      "begin(0,10000)",
      "end(0,4096,4096)",
      "begin(4096,5904)",
      "end(4096,5904,5904)",
    ]);
    expect(iter.lengthBytes).toBe(0);
  },
);

test.each(WHEN)("I2 a body that does not move ends the iteration (%s)", async (when) => {
  const fs = scriptOf(M(0, 4096));
  expect(await iterate(fs, iterOf(fs, 0, 10000), bodyOf(), when)).toBeUndefined();
  expect(fs.calls).toEqual(["begin(0,10000)", "end(0,4096,0)"]);
});

test.each(WHEN)("I3 a mapping used in part is asked for again from there (%s)", async (when) => {
  const fs = scriptOf(M(0, 4096));
  await iterate(fs, iterOf(fs, 0, 10000), bodyOf({ advance: 1000 }), when);
  expect(fs.calls.slice(0, 3)).toEqual(["begin(0,10000)", "end(0,4096,1000)", "begin(1000,9000)"]);
});

test.each(WHEN)("I4 an error after progress ends with that error, after end (%s)", async (when) => {
  const fs = scriptOf(M(0, 4096));
  const iter = iterOf(fs, 0, 10000);
  const body = bodyOf({ advance: 1000, fail: bodyError });
  expect(await iterate(fs, iter, body, when)).toBe(bodyError);
  expect(fs.calls).toEqual(["begin(0,10000)", "end(0,4096,1000)"]);
  expect(iter.posBytes).toBe(1000); // From which a caller makes its short count.
});

test.each(WHEN)(
  "I5 an error of end wins without progress and is dropped with it (%s)",
  async (when) => {
    const fs = scriptOf(M(0, 4096));
    fs.onEnd = () => {
      throw endError;
    };
    expect(await iterate(fs, iterOf(fs, 0, 10000), bodyOf({ fail: bodyError }), when)).toBe(
      endError,
    );

    const other = scriptOf(M(0, 4096));
    other.onEnd = (posBytes) => {
      if (posBytes === 0) throw endError;
    };
    const body = bodyOf({ advance: 512 });
    expect(await iterate(other, iterOf(other, 0, 10000), body, when)).toBeUndefined();
    expect(other.calls.slice(1, 3)).toEqual(["end(0,4096,512)", "begin(512,9488)"]);
  },
);

test.each(WHEN)(
  "I6 a stale mapping is asked for again, from where the body came to (%s)",
  async (when) => {
    const fs = scriptOf(M(0, 4096));
    await iterate(fs, iterOf(fs, 0, 10000), bodyOf({ stale: true }), when);
    expect(fs.calls.slice(0, 3)).toEqual(["begin(0,10000)", "end(0,4096,0)", "begin(0,10000)"]);

    const other = scriptOf(M(0, 4096));
    await iterate(other, iterOf(other, 0, 10000), bodyOf({ stale: true, advance: 512 }), when);
    expect(other.calls.slice(0, 3)).toEqual([
      "begin(0,10000)",
      "end(0,4096,512)",
      "begin(512,9488)",
    ]);
  },
);

test("I6 a mapping that is stale a thousand times in a row is an error", () => {
  const fs = scriptOf(M(0, 4096));
  const body: IomapBody = (iter) => {
    iter.iomap.flags |= IOMAP_F_STALE;
  };
  expect(() => iomapIterate(iterOf(fs, 0, 4096), fs, body)).toThrow("stale again and again");
  expect(fs.calls.length).toBe(2000);
});

const BREACHES: [
  string,
  (iomap: { offsetBytes: number; lengthBytes: number; flags: number }) => void,
][] = [
  ["begins behind the position", (iomap) => Object.assign(iomap, { offsetBytes: 8192 })],
  ["ends before the position", (iomap) => Object.assign(iomap, { lengthBytes: 1024 })],
  ["is empty", (iomap) => Object.assign(iomap, { offsetBytes: 2048, lengthBytes: 0 })],
  ["is stale", (iomap) => Object.assign(iomap, { flags: IOMAP_F_STALE })],
  ["begins inside a block", (iomap) => Object.assign(iomap, { offsetBytes: 100 })],
  ["ends inside a block", (iomap) => Object.assign(iomap, { lengthBytes: 4000 })],
];

for (const [what, spoil] of BREACHES) {
  test.each(WHEN)(`I7 an answer that ${what} is EIO, after end (%s)`, async (when) => {
    const fs = scriptOf(M(0, 4096));
    fs.onBegin = ({ iomap }) => spoil(iomap);
    let bodyCalls = 0;
    const body: IomapBody = () => void bodyCalls++;
    const thrown = await iterate(fs, iterOf(fs, 2048, 2048), body, when);
    expect(thrown).toMatchObject({ code: "EIO" });
    expect(bodyCalls).toBe(0);
    expect(fs.calls.length).toBe(2);
    expect(fs.calls[1]).toMatch(/^end\(2048,\d+,0\)$/);
  });
}

test("I8 the source mapping limits the length too", () => {
  const flags = IOMAP_F_NEW | IOMAP_F_SHARED;
  const fs = scriptOf(scriptMapping(IOMAP_MAPPED, 0, 32768, { flags }));
  fs.onBegin = ({ srcmap }) => {
    Object.assign(srcmap, M(4096, 5120), { bdev: fs.device });
  };
  const lengthAt = (posBytes: number, lengthBytes: number): number => {
    let length = -1;
    const body: IomapBody = (iter) => {
      length = iomapLength(iter);
    };
    void iomapIterate(iterOf(fs, posBytes, lengthBytes, IOMAP_WRITE), fs, body);
    return length;
  };
  expect(lengthAt(5000, 100)).toBe(100);
  expect(lengthAt(4096, 4096)).toBe(1024);
});

test("I9 an advance beyond the mapping is EIO and moves nothing", () => {
  const fs = scriptOf(M(0, 4096));
  const iter = iterOf(fs, 1024, 10000);
  expect(() => iomapIterate(iter, fs, bodyOf({ advance: 3073 }))).toThrow("an advance beyond");
  expect([iter.posBytes, iter.lengthBytes]).toEqual([1024, 10000]);
  expect(fs.calls).toEqual(["begin(1024,10000)", "end(1024,3072,0)"]);
});
