/**
 * What programs do on a volume that fails: each workload goes on after a call has failed, as far as
 * it can. `prepare` makes what is there before; it runs on a volume that does not fail.
 */
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
} from "../../src/fs/vfs-write.ts";
import { KIB, PAGE_BYTES } from "../../src/lib/units.ts";
import type { FaultVolume, OpenFaultyFile } from "./fault-volume.ts";

type Work = (volume: FaultVolume) => Promise<unknown>;

/** See the head of the file. */
export interface FaultWorkload {
  readonly prepare?: Work;
  readonly run: Work;
}

/** Longer than it takes until what is dirty is written by itself. */
const EXPIRE_MS = 40_000;

function bytesOf(volume: FaultVolume, lengthBytes: number): Uint8Array {
  return volume.random.bytes(lengthBytes);
}

async function putMany(
  volume: FaultVolume,
  prefix: string,
  count: number,
  lengthBytes: number,
): Promise<void> {
  for (let at = 0; at < count; at++) {
    await volume.put(`${prefix}${at}`, bytesOf(volume, lengthBytes));
  }
}

async function append(
  volume: FaultVolume,
  open: OpenFaultyFile | undefined,
  lengthBytes: number,
): Promise<void> {
  await open?.write(open.file.sizeBytes, bytesOf(volume, lengthBytes));
}

const makeOld: Work = (volume) => volume.put("/old", bytesOf(volume, 90_000));

export const FAULT_WORKLOADS: Readonly<Record<string, FaultWorkload>> = {
  create: {
    run: (volume) => putMany(volume, "/file-", 5, 3000),
  },
  "create and fsync": {
    run: async (volume) => {
      const open = await volume.open("/file");
      await open?.write(0, bytesOf(volume, 10_000));
      await open?.sync();
      await append(volume, open, 5000);
      await open?.sync();
      await open?.close();
    },
  },
  "three handles": {
    prepare: makeOld,
    run: async (volume) => {
      const [first, second, third] = [
        await volume.open("/old", "r+"),
        await volume.open("/old", "r+"),
        await volume.open("/old", "r+"),
      ];
      await first?.write(5000, bytesOf(volume, 20_000));
      await volume.pass(EXPIRE_MS);
      await second?.write(50_000, bytesOf(volume, 100));
      await first?.sync();
      await second?.sync();
      await third?.read();
    },
  },
  "rename over, synced": {
    prepare: makeOld,
    run: async (volume) => {
      const open = await volume.open("/new");
      await open?.write(0, bytesOf(volume, 30_000));
      const isSynced = (await open?.sync()) === true;
      await open?.close();
      if (isSynced) await volume.rename("/new", "/old");
      await volume.sync();
    },
  },
  "rename over, not synced": {
    prepare: makeOld,
    run: async (volume) => {
      if (await volume.put("/new", bytesOf(volume, 30_000))) await volume.rename("/new", "/old");
      await volume.did(() => volume.fs.mkdir("/dir"));
      await volume.rename("/old", "/dir/moved");
    },
  },
  unlink: {
    prepare: (volume) => putMany(volume, "/file-", 12, 9000),
    run: async (volume) => {
      for (let at = 0; at < 12; at += 2) await volume.unlink(`/file-${at}`);
      await volume.sync();
      await volume.unlink("/file-1");
      await volume.put("/file-0", bytesOf(volume, 20_000));
    },
  },
  truncate: {
    prepare: (volume) => volume.put("/large", bytesOf(volume, 700 * KIB)),
    run: async (volume) => {
      const open = await volume.open("/large", "r+");
      await open?.truncate(300_001);
      await open?.sync();
      await open?.truncate(400_000);
      await append(volume, open, 1000);
      await open?.truncate(100);
      await open?.sync();
    },
  },
  attributes: {
    prepare: makeOld,
    run: async (volume) => {
      const { fs } = volume;
      await volume.did(() => fs.setXattr("/old", "user.small", new Uint8Array(20).fill(1)));
      await volume.did(() => fs.setXattr("/old", "user.large", new Uint8Array(700).fill(2)));
      await volume.did(() => fs.chmod("/old", 0o600));
      await volume.did(() => fs.chown("/old", 1000, 70_000));
      await volume.sync();
      await volume.did(() => fs.utimes("/old", 1, 2));
      await volume.did(() => fs.removeXattr("/old", "user.large"));
    },
  },
  "large file": {
    run: async (volume) => {
      const open = await volume.open("/large");
      for (let at = 0; at < 12; at++) await append(volume, open, 80_000);
      await open?.sync();
      await open?.read();
    },
  },
  "random overwrites": {
    prepare: (volume) => volume.put("/large", bytesOf(volume, 900 * KIB)),
    run: async (volume) => {
      const open = await volume.open("/large", "r+");
      for (let at = 0; at < 30; at++) {
        await open?.write(volume.random.below(850 * KIB), bytesOf(volume, 3000));
      }
      await open?.sync();
      await open?.write(100, bytesOf(volume, 10));
      await open?.read();
    },
  },
  "parallel fsyncs": {
    run: async (volume) => {
      const work = async (at: number): Promise<void> => {
        const open = await volume.open(`/file-${at}`);
        for (let round = 0; round < 2; round++) {
          await append(volume, open, 2000 + at);
          await open?.sync();
        }
      };
      await Promise.all(Array.from({ length: 6 }, (_, at) => work(at)));
    },
  },
  "full device": {
    run: async (volume) => {
      for (let round = 0; round < 2; round++) {
        const open = await volume.open("/filler");
        const piece = bytesOf(volume, 512 * KIB);
        for (let at = 0; at < 30; at++) {
          if (!(await open?.write(at * piece.length, piece))) break;
        }
        await open?.sync();
        await open?.close();
        await volume.put("/more", bytesOf(volume, 5000));
        await volume.unlink("/filler");
      }
    },
  },
  "close without sync": {
    run: async (volume) => {
      for (let at = 0; at < 4; at++) {
        const open = await volume.open(`/file-${at}`);
        await open?.write(0, bytesOf(volume, 40_000));
      }
    },
  },
  directories: {
    run: async (volume) => {
      const { fs } = volume;
      for (const path of ["/a", "/a/b", "/a/b/c", "/a/d"]) await volume.did(() => fs.mkdir(path));
      await volume.put("/a/b/c/file", bytesOf(volume, 100));
      await volume.did(() => fs.rmdir("/a/d"));
      await volume.did(() => fs.rename("/a/b/c", "/c"));
      const file = volume.files.get("/a/b/c/file");
      volume.files.delete("/a/b/c/file");
      if (file !== undefined) file.isPromised = false;
      await volume.sync();
      await volume.did(() => fs.rmdir("/a/b"));
    },
  },
  links: {
    prepare: makeOld,
    run: async (volume) => {
      const { fs } = volume;
      await volume.did(() => fs.link("/old", "/second"));
      await volume.did(() => fs.symlink("old", "/short"));
      await volume.did(() => fs.symlink("x".repeat(200), "/long"));
      await volume.did(() => fs.mknod("/pipe", 0o10644));
      await volume.sync();
      await volume.unlink("/old");
      await volume.did(() => fs.unlink("/long"));
      await volume.did(() => fs.unlink("/second"));
    },
  },
  holes: {
    prepare: (volume) => volume.put("/large", bytesOf(volume, 300_000)),
    run: async (volume) => {
      const open = await volume.open("/large", "r+");
      await open?.zero(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10_000, 50_000);
      await open?.zero(FALLOC_FL_ZERO_RANGE, 100_000, 70_000);
      await open?.write(20_000, bytesOf(volume, 5000));
      await open?.sync();
      await open?.write(1_000_000, bytesOf(volume, 100));
      await open?.read();
    },
  },
  "written by itself": {
    run: async (volume) => {
      const open = await volume.open("/file");
      for (let at = 0; at < 3; at++) {
        await open?.write(at * 100_000, bytesOf(volume, 50_000));
        await volume.pass(EXPIRE_MS);
      }
      await open?.read();
    },
  },
  "many names": {
    run: async (volume) => {
      const { fs } = volume;
      await volume.did(() => fs.mkdir("/dir"));
      for (let at = 0; at < 60; at++) {
        const name = `/dir/${"name-".repeat(20)}${at}`;
        await volume.did(() => fs.symlink("target", name));
      }
      await volume.sync();
      await volume.did(() => fs.readdir("/dir"));
    },
  },
  frozen: {
    run: async (volume) => {
      await volume.put("/file", bytesOf(volume, 30_000));
      if (await volume.did(() => volume.writer.freeze())) {
        await volume.did(() => volume.writer.thaw());
      }
      await volume.put("/file", bytesOf(volume, 20_000));
    },
  },
  orphans: {
    prepare: (volume) => putMany(volume, "/file-", 3, 60_000),
    run: async (volume) => {
      const open = await volume.open("/file-0", "r+");
      await open?.write(0, bytesOf(volume, 10_000));
      await volume.unlink("/file-0");
      await volume.sync();
      await open?.read();
      await open?.truncate(5000);
      await open?.sync();
      await open?.close();
      await volume.unlink("/file-1");
    },
  },
  "synchronous writes": {
    prepare: (volume) => volume.put("/log", bytesOf(volume, 3000)),
    run: async (volume) => {
      const open = await volume.open("/log", "rs+");
      for (let at = 0; at < 4; at++) await append(volume, open, 700);
      await open?.read();
    },
  },
  "cold reads": {
    prepare: async (volume) => {
      await volume.put("/large", bytesOf(volume, 900 * KIB));
      await putMany(volume, "/file-", 4, PAGE_BYTES);
    },
    run: async (volume) => {
      const open = await volume.open("/large", "r");
      await open?.read();
      await open?.read();
      await volume.did(() => volume.fs.readdir("/"));
      await volume.put("/file-1", bytesOf(volume, 100));
    },
  },
};
