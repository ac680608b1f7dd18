/** Our errors beside Node's own for the same failures. */
import { mkdtempSync, openSync, readdirSync, renameSync, rmdirSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import * as errno from "./errno.ts";
import {
  codeOf,
  type ErrnoCode,
  errnoOf,
  FsError,
  type FsErrorContext,
  hasErrnoCode,
  messageOf,
} from "./errno.ts";

const scratch = mkdtempSync(join(tmpdir(), "quire-errno-"));
afterAll(() => rmSync(scratch, { recursive: true }));

function thrownBy(call: () => unknown): NodeJS.ErrnoException {
  try {
    call();
  } catch (thrown) {
    return thrown as NodeJS.ErrnoException;
  }
  throw new Error("the call succeeded");
}

const missing = join(scratch, "missing");

describe("FsError", () => {
  test.each<[string, ErrnoCode, FsErrorContext, () => unknown]>([
    ["open", "ENOENT", { syscall: "open", path: missing }, () => openSync(missing, "r")],
    [
      "open of a directory",
      "EISDIR",
      { syscall: "open", path: scratch },
      () => openSync(scratch, "w"),
    ],
    [
      "rename",
      "ENOENT",
      { syscall: "rename", path: missing, dest: `${missing}2` },
      () => renameSync(missing, `${missing}2`),
    ],
    ["scandir", "ENOENT", { syscall: "scandir", path: missing }, () => readdirSync(missing)],
    ["rmdir", "ENOENT", { syscall: "rmdir", path: missing }, () => rmdirSync(missing)],
  ])("is Node's to the letter: %s", (_what, code, where, call) => {
    const theirs = thrownBy(call);
    const ours = new FsError(code, where);
    expect(ours.message).toBe(theirs.message);
    expect(Object.keys(ours).sort()).toEqual(Object.keys(theirs).sort());
    expect({ ...ours }).toEqual({ ...theirs });
    expect([ours.name, String(ours)]).toEqual([theirs.name, String(theirs)]);
    expect(ours).toBeInstanceOf(Error);
  });

  test("has no key for what was left out", () => {
    expect(Object.keys(new FsError("EIO")).sort()).toEqual(["code", "errno"]);
    expect("cause" in new FsError("EIO")).toBe(false);
    const where = { syscall: undefined, path: undefined, dest: undefined };
    expect(Object.keys(new FsError("EIO", where)).sort()).toEqual(["code", "errno"]);
  });

  test("says what is wrong after Node's words, and why", () => {
    const cause = new Error("short circuit");
    const error = new FsError("EUCLEAN", { syscall: "read", path: "/x", detail: "block 7", cause });
    expect(error.message).toBe("EUCLEAN: structure needs cleaning, read '/x': block 7");
    expect([error.detail, error.cause]).toEqual(["block 7", cause]);
    expect(Object.keys(error)).not.toContain("detail");
  });
});

describe("errno numbers", () => {
  test.skipIf(process.platform !== "linux")("are those of the system's headers", () => {
    for (const [code, number] of Object.entries(constants.errno)) {
      const isOurs = hasErrnoCode(Object.assign(new Error(), { code }));
      if (isOurs) expect([code, new FsError(code as ErrnoCode).errno]).toEqual([code, -number]);
    }
  });

  test("are exported as positive constants that agree with the table", () => {
    const exported = Object.entries(errno).filter(([name]) => /^E[A-Z0-9]+$/.test(name));
    expect(exported.length).toBeGreaterThan(15);
    for (const [name, number] of exported) {
      expect([name, new FsError(name as ErrnoCode).errno]).toEqual([name, -Number(number)]);
    }
  });

  test("cross to thrown errors and back", () => {
    expect(FsError.of(-28, { syscall: "write" })).toMatchObject({ code: "ENOSPC", errno: -28 });
    expect(FsError.of(-9999).code).toBe("EIO");
    expect([codeOf(-95), codeOf(0)]).toEqual(["EOPNOTSUPP", "EIO"]);
    expect(errnoOf(new FsError("ENOSPC"))).toBe(-28);
    expect(errnoOf(Object.assign(new Error(), { code: "ENOENT" }))).toBe(-2);
  });

  test("-EINTR stands for an abort and -EIO for whatever else is thrown", () => {
    expect(errnoOf(AbortSignal.abort().reason)).toBe(-errno.EINTR);
    expect(errnoOf("enough", AbortSignal.abort("enough"))).toBe(-errno.EINTR);
    expect(errnoOf("odd", AbortSignal.abort("enough"))).toBe(-errno.EIO);
    expect(errnoOf(undefined, new AbortController().signal)).toBe(-errno.EIO);
    const others = [new Error("odd"), "text", undefined, null, { code: "ENOENT" }];
    for (const thrown of others) expect(errnoOf(thrown)).toBe(-errno.EIO);
    expect(errnoOf(Object.assign(new Error(), { code: "toString" }))).toBe(-errno.EIO);
  });

  test("have Node's words", () => {
    expect(messageOf("ENOTEMPTY")).toBe("directory not empty");
  });
});
