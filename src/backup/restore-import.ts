/**
 * The importing step of a restore: the machine by the host's own import, disks of other SRs as raw bytes behind it.
 *
 * A host that reads the archive by itself gets a link that is good for a day. Where it cannot read it (no way to the
 * bucket, no trust in its certificate), and nobody insisted, the bytes go through this process after all; the job says so.
 */
import type { Job, Progress } from '../catalog/record.ts';
import type { RestoreCheckpoint, RestorePlan } from '../catalog/restore.ts';
import { BackupError, isBackupError } from '../errors.ts';
import { RESTORE_MARK } from '../imports.ts';
import type { ImportLabel, ImportStream, VdiRef, VmRef } from '../ports.ts';
import { editOva, type OvaEdit } from '../xva/ova-edit.ts';
import { describeOva } from '../xva/ova-facts.ts';
import type { StepContext } from './context.ts';
import { snapshotName } from './look.ts';
import { patiently, type RestoreLook, requestOf } from './restore-look.ts';
import { readOva } from './restore-ova.ts';
import { type Pass, planPass } from './restore-pass.ts';
import type { PlannedDisk } from './restore-plan.ts';
import { sendDisks, sendMachine, sentLength } from './restore-send.ts';

/** A host asks for the link at once, and reads one answer to its end: it need not outlive the slowest import. */
const LINK_SECONDS = 86_400;

export interface RestoreRun {
  job: Job;
  look: RestoreLook;
  progress: Tally;
  made(): RestoreCheckpoint;
  /** Written to the bucket before it resolves. */
  note(patch: Partial<RestoreCheckpoint>): Promise<void>;
}

/** Bytes of a job that reads its archive more than once. */
export interface Tally {
  /** Of the pass that is under way. */
  at(read: number, sent: number): void;
  /** So much more will be read. */
  expect(bytes: number): void;
  /** The pass is done: the next counts from here. */
  next(): void;
  /** Of a host that reads by itself, 0 to 1. */
  share(progress: number): void;
  last(): Progress;
}

/** Counts from nothing: what an earlier try sent is gone. */
export function createTally({ progress }: Job, context: StepContext): Tally {
  const { percent: _, total_bytes: _2, ...given } = progress;
  let base: Progress = { ...given, read_bytes: 0, sent_bytes: 0 };
  let last: Progress = base;
  const tell = (now: Progress) => {
    last = now;
    context.report(now);
  };
  return {
    at: (read, sent) =>
      tell({ ...base, read_bytes: base.read_bytes + read, sent_bytes: base.sent_bytes + sent }),
    expect: (bytes) => {
      base = { ...base, total_bytes: (base.total_bytes ?? 0) + bytes };
    },
    next: () => {
      base = { ...base, read_bytes: last.read_bytes, sent_bytes: last.sent_bytes };
    },
    share: (part) => tell({ ...base, percent: Math.round(Math.min(1, part) * 990) / 10 }),
    last: () => last,
  };
}

/** Imports the machine with the disks of its SR. `way`: how it was done in the end. */
export async function importMachine(
  run: RestoreRun,
  context: StepContext,
): Promise<{ vm: VmRef; way: Pick<RestorePlan, 'via' | 'via_reason'> }> {
  const { plan } = run.look.planned;
  const way = { via: plan.via, via_reason: plan.via_reason };
  if (plan.via === 'stream') return { vm: await streamMachine(run, context), way };
  try {
    return { vm: await pullMachine(run, context), way };
  } catch (error) {
    const why = whyNoLink(error);
    if (why === undefined || requestOf(run.job).via === 'url') throw error;
    const reason = `the host could not read the archive by itself (${why})`;
    context.engine.log.warn('restore by link not possible', { job_id: run.job.id, error: why });
    const vm = await streamMachine(run, context);
    return { vm, way: { via: 'stream', via_reason: reason } };
  }
}

/** Why a link cannot be made, read or asked for; undefined for what would fail on the other way as well. */
function whyNoLink(error: unknown): string | undefined {
  if (!(error instanceof BackupError)) return undefined;
  const { code, details } = error;
  // reading a link takes a higher role than taking a stream in
  const isRole = code === 'restore_refused' && details.reason === 'unsupported';
  const isLink = details.fetch === true || isBackupError(error, 'store_refused', 'configuration');
  return isLink || isRole ? error.message : undefined;
}

async function pullMachine(run: RestoreRun, context: StepContext): Promise<VmRef> {
  const { engine, signal } = context;
  const { look, job, progress } = run;
  const { archive } = look.stored;
  const url = await engine.store.presignGet({
    key: archive.key,
    expiresSeconds: LINK_SECONDS,
    fileName: 'restore.xva',
  });
  await run.note({ unclear: true });
  const input = { url, sr: look.planned.sr.ref, keepIdentity: false, ...labelOf(run) };
  const refs = await look.pool
    .importFromUrl(input, { signal, onProgress: progress.share })
    .catch(async (error) => {
      if (!isBackupError(error, 'pool_unavailable')) await run.note({ unclear: false });
      throw error;
    });
  const vm = onlyOne(refs, job);
  await patiently(job, context, (options) => look.pool.markMachine({ vm, mark: job.id }, options));
  return vm;
}

async function streamMachine(run: RestoreRun, context: StepContext): Promise<VmRef> {
  const { look, job, progress } = run;
  const { signal } = context;
  const { sr, disks, keepIdentity, sha1 } = look.planned;
  const own = disks.filter(({ apart }) => !apart);
  const member = editOva(look.ova, editOf(run, own, context));
  const wanted = new Set(own.map(({ facts }) => facts.archiveId));
  const way = await planPass(look.stored, { wanted, makeMember: async () => member }, context);
  const sizeBytes = sentLength(member, own);
  progress.expect(way.readBytes);
  await using stream = await look.pool.openImport(
    { sr: sr.ref, sizeBytes, keepIdentity, ...labelOf(run) },
    { signal },
  );
  const visitor = sendMachine({ member, disks: own, sha1 }, (bytes) =>
    stream.write(bytes, { signal }),
  );
  const onRead = (read: number) => progress.at(read, stream.sentBytes);
  await way.run({ visitor, onRead });
  const refs = await stream.settle({ signal });
  progress.at(way.readBytes, stream.sentBytes);
  progress.next();
  return onlyOne(refs, job);
}

function editOf(
  { job, look, made }: RestoreRun,
  disks: readonly PlannedDisk[],
  { engine }: StepContext,
): OvaEdit {
  const { plan, networks, version } = look.planned;
  const { vm_uuid: vmUuid, mac_seed: macSeed, generation_id: generationId } = made();
  return {
    nameLabel: job.restore_plan?.name ?? plan.name,
    marks: { [RESTORE_MARK]: job.id },
    disks: new Set(disks.map(({ facts }) => facts.archiveId)),
    networks,
    ...(version === undefined ? {} : { version }),
    ...(vmUuid === undefined || generationId === undefined
      ? {}
      : {
          identity: {
            vmUuid,
            generationId,
            freshUuid: () => engine.ids.uuid(),
            ...(macSeed === undefined ? {} : { macSeed }),
          },
        }),
  };
}

/** Disks that do not come with the machine, and how they are read. */
export interface Apart {
  disks: PlannedDisk[];
  way: Pass;
}

/** Looks which disks these are; undefined when there are none. */
export async function planApart(run: RestoreRun, context: StepContext): Promise<Apart | undefined> {
  const { planned, stored } = run.look;
  const disks = planned.disks.filter(({ apart }) => apart);
  if (disks.length === 0) return undefined;
  const wanted = new Set(disks.map(({ facts }) => facts.archiveId));
  const makeMember = () => bareMember(run, wanted, context);
  const way = await planPass(stored, { wanted, makeMember }, context);
  run.progress.expect(way.readBytes);
  return { disks, way };
}

/** Disks of other SRs, and a disk alone: made, marked, written in one pass, attached. */
export async function importApart(
  run: RestoreRun,
  { disks, way }: Apart,
  context: StepContext,
): Promise<void> {
  const { job, look, made, note, progress } = run;
  const { pool, planned, stored } = look;
  const { signal } = context;
  for (const disk of disks) {
    const { facts, sr } = disk;
    const created = await pool.createDisk(
      {
        sr: sr.ref,
        sizeBytes: facts.virtualSizeBytes,
        nameLabel: planned.alone ? planned.plan.name : facts.nameLabel,
        nameDescription: `restored from backup ${stored.backup.id}`,
        mark: job.id,
      },
      { signal },
    );
    const { ref, uuid } = created;
    await note({ disks: { ...made().disks, [facts.archiveId]: { ref, uuid } } });
  }
  const refOf = ({ facts }: PlannedDisk) => made().disks[facts.archiveId]?.ref as VdiRef;
  await using streams = new AsyncDisposableStack();
  const open = async (disk: PlannedDisk): Promise<ImportStream<void>> => {
    const sizeBytes = disk.facts.virtualSizeBytes;
    const input = { vdi: refOf(disk), sizeBytes, ...labelOf(run) };
    return streams.use(await pool.openDiskImport(input, { signal }));
  };
  let readBytes = 0;
  const onSent = () => progress.at(readBytes, visitor.sentBytes());
  const visitor = sendDisks(
    disks.map((disk) => ({ disk, open: () => open(disk) })),
    { signal, onSent },
  );
  const onRead = (read: number) => {
    readBytes = read;
    onSent();
  };
  await way.run({ visitor, onRead });
  progress.next();
  const vm = made().vm_ref as VmRef | undefined;
  if (vm === undefined) return;
  for (const disk of disks) {
    const { userdevice, bootable, readOnly } = disk.facts;
    await pool.attachDisk({ vm, vdi: refOf(disk), userdevice, bootable, readOnly }, { signal });
  }
}

/** An ova.xml of some disks that goes nowhere: the codec reads their ranges as an archive. */
async function bareMember(
  { look }: RestoreRun,
  disks: ReadonlySet<string>,
  { engine, signal }: StepContext,
): Promise<Buffer> {
  const ova = await readOva(look.stored, engine.store, { signal });
  const networks = new Map(describeOva(ova).networks.map(({ id }) => [id, 'none'] as const));
  return editOva(ova, { nameLabel: '', marks: {}, disks, networks });
}

/** What a call whose answer nobody saw may have made: said, since nothing without a mark of ours is ever removed. */
export function unclearText({ restore }: Job['checkpoint'], name: string): string | undefined {
  if (restore?.unclear !== true) return undefined;
  return `the pool was asked to make the machine from a link, and its answer was lost: look for one named ${JSON.stringify(name)} that nobody made, and remove it`;
}

/** How it shows up among the pool's tasks, and is found again there. */
function labelOf({ job, made, note }: RestoreRun): ImportLabel {
  return {
    label: `xvault restore of ${job.vm.name}`,
    description: snapshotName(job),
    onTask: (task) => note({ tasks: [...made().tasks, task], unclear: false }),
  };
}

function onlyOne(refs: readonly VmRef[], job: Job): VmRef {
  const [vm] = refs;
  if (vm !== undefined && refs.length === 1) return vm;
  throw new BackupError(
    'target_failed',
    `import job=${job.id}: the pool made ${refs.length} machines`,
  );
}
