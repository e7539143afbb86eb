/**
 * The demo's proof: one archive is downloaded through its link and taken apart by an importer that shares no code with
 * the program, then every byte of every disk is compared with the machine's own.
 */
import type { SimPool } from '../../test/sim/pool.ts';
import { BackupError } from '../errors.ts';
import type { BackupView } from '../http/views.ts';

export interface ArchiveCheck {
  backup_id: string;
  vm_name: string;
  archive_bytes: number;
  disks: { name: string; virtual_size_bytes: number; identical: boolean }[];
  imports_as: string;
  ok: boolean;
}

/** Checks one backup. Errors: `data_corrupt` when the importer refuses it, `service_unavailable`. */
export async function checkArchive(
  input: { url: string; backup: BackupView; pool: SimPool },
  { signal }: { signal: AbortSignal },
): Promise<ArchiveCheck> {
  const [{ importXva }, { digestDisk }] = await Promise.all([
    import('../../test/importer.ts'),
    import('../../test/sim/disk.ts'),
  ]);
  const { backup, pool } = input;
  const response = await fetch(`${input.url}${backup.links.xva}`, { signal });
  if (!response.ok || response.body === null) {
    throw new BackupError('service_unavailable', `download archive, status=${response.status}`);
  }
  const imported = await importXva(response.body).catch((cause: unknown) => {
    throw new BackupError('data_corrupt', `import archive of ${backup.vm.name}`, { cause });
  });
  const machine = pool.machines.find(({ uuid }) => uuid === backup.vm.uuid);
  const disks = imported.disks.map((disk) => {
    const original = machine?.disks.find(({ userdevice }) => userdevice === disk.userdevice);
    return {
      name: original?.name ?? disk.userdevice,
      virtual_size_bytes: disk.sizeBytes,
      identical: original !== undefined && digestDisk(disk.image) === digestDisk(original.disk),
    };
  });
  return {
    backup_id: backup.id,
    vm_name: backup.vm.name,
    archive_bytes: imported.plainBytes,
    disks,
    imports_as: imported.vm.isATemplate ? 'template' : 'normal machine',
    ok: !imported.vm.isATemplate && disks.length > 0 && disks.every((disk) => disk.identical),
  };
}
