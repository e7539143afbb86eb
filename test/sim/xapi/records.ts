/**
 * What an empty record of each class looks like: every field a client or an importer may look at.
 *
 * Field names and kinds follow the data model of xapi (xen-api `ocaml/idl/datamodel*.ml`); fields newer than the
 * oldest persona are harmless extras there. Refs default to OpaqueRef:NULL. Each call makes fresh maps and sets.
 */
import { device, EPOCH, named, operations, SMALL_RECORDS } from './records-small.ts';
import { float, NULL_REF, type Rec } from './values.ts';

function vm(): Rec {
  return {
    ...named(),
    ...vmFlags(),
    ...vmSizing(),
    ...operations(),
    power_state: 'Halted',
    suspend_VDI: NULL_REF,
    resident_on: NULL_REF,
    scheduled_to_be_resident_on: NULL_REF,
    affinity: NULL_REF,
    consoles: [],
    VIFs: [],
    VBDs: [],
    VUSBs: [],
    crash_dumps: [],
    VTPMs: [],
    VGPUs: [],
    attached_PCIs: [],
    last_boot_CPU_flags: {},
    metrics: NULL_REF,
    guest_metrics: NULL_REF,
    last_booted_record: '',
    recommendations: '',
    xenstore_data: {},
    snapshot_of: NULL_REF,
    snapshots: [],
    snapshot_time: EPOCH,
    transportable_snapshot_id: '',
    blobs: {},
    tags: [],
    blocked_operations: {},
    snapshot_info: {},
    snapshot_metadata: '',
    parent: NULL_REF,
    children: [],
    bios_strings: {},
    protection_policy: NULL_REF,
    snapshot_schedule: NULL_REF,
    appliance: NULL_REF,
    start_delay: 0,
    shutdown_delay: 0,
    order: 0,
    suspend_SR: NULL_REF,
    version: 0,
    generation_id: '',
    reference_label: '',
    domain_type: 'hvm',
    NVRAM: {},
    pending_guidances: [],
  };
}

function vmFlags(): Rec {
  return {
    user_version: 1,
    is_a_template: false,
    is_default_template: false,
    is_a_snapshot: false,
    is_snapshot_from_vmpp: false,
    is_vmss_snapshot: false,
    is_control_domain: false,
    ha_always_run: false,
    ha_restart_priority: '',
    requires_reboot: false,
    has_vendor_device: false,
    hardware_platform_version: 0,
    domid: -1,
    domarch: '',
  };
}

function vmSizing(): Rec {
  const memoryBytes = 2_147_483_648;
  return {
    memory_overhead: 20_971_520,
    memory_target: 0,
    memory_static_max: memoryBytes,
    memory_dynamic_max: memoryBytes,
    memory_dynamic_min: memoryBytes,
    memory_static_min: memoryBytes / 2,
    VCPUs_params: {},
    VCPUs_max: 2,
    VCPUs_at_startup: 2,
    actions_after_softreboot: 'soft_reboot',
    actions_after_shutdown: 'destroy',
    actions_after_reboot: 'restart',
    actions_after_crash: 'restart',
    PV_bootloader: '',
    PV_kernel: '',
    PV_ramdisk: '',
    PV_args: '',
    PV_bootloader_args: '',
    PV_legacy_args: '',
    HVM_boot_policy: 'BIOS order',
    HVM_boot_params: { order: 'cdn', firmware: 'bios' },
    HVM_shadow_multiplier: float(1),
    platform: { acpi: '1', apic: 'true', nx: 'true', pae: 'true', viridian: 'false' },
    PCI_bus: '',
    other_config: {},
  };
}

function vdi(): Rec {
  return {
    ...named(),
    ...operations(),
    SR: NULL_REF,
    VBDs: [],
    crash_dumps: [],
    virtual_size: 0,
    physical_utilisation: 0,
    type: 'user',
    sharable: false,
    read_only: false,
    other_config: {},
    storage_lock: false,
    location: '',
    managed: true,
    missing: false,
    parent: NULL_REF,
    xenstore_data: {},
    sm_config: {},
    is_a_snapshot: false,
    snapshot_of: NULL_REF,
    snapshots: [],
    snapshot_time: EPOCH,
    tags: [],
    allow_caching: false,
    on_boot: 'persist',
    metadata_of_pool: NULL_REF,
    metadata_latest: false,
    is_tools_iso: false,
    cbt_enabled: false,
  };
}

function task(): Rec {
  return {
    ...named(),
    ...operations(),
    created: EPOCH,
    finished: EPOCH,
    status: 'pending',
    resident_on: NULL_REF,
    progress: float(0),
    type: '<none/>',
    result: '',
    error_info: [],
    other_config: {},
    subtask_of: NULL_REF,
    subtasks: [],
    backtrace: '()',
  };
}

function host(): Rec {
  return {
    ...named(),
    ...operations(),
    memory_overhead: 0,
    API_version_major: 2,
    API_version_minor: 0,
    API_version_vendor: 'XenSource',
    API_version_vendor_implementation: {},
    enabled: true,
    software_version: {},
    other_config: {},
    capabilities: [],
    cpu_configuration: {},
    cpu_info: {},
    hostname: '',
    address: '',
    metrics: NULL_REF,
    resident_VMs: [],
    PBDs: [],
    PIFs: [],
    license_params: {},
    license_server: {},
    edition: 'xcp-ng',
    control_domain: NULL_REF,
    suspend_image_sr: NULL_REF,
    crash_dump_sr: NULL_REF,
    local_cache_sr: NULL_REF,
    tags: [],
    blobs: {},
    features: [],
    https_only: false,
    certificates: [],
    multipathing: false,
    bios_strings: {},
    ssl_legacy: false,
  };
}

function pool(): Rec {
  return {
    ...named(),
    ...operations(),
    master: NULL_REF,
    default_SR: NULL_REF,
    suspend_image_SR: NULL_REF,
    crash_dump_SR: NULL_REF,
    other_config: {},
    ha_enabled: false,
    ha_configuration: {},
    ha_statefiles: [],
    ha_host_failures_to_tolerate: 0,
    restrictions: { restrict_cbt: 'false', restrict_checkpoint: 'false' },
    tags: [],
    gui_config: {},
    health_check_config: {},
    wlb_enabled: false,
    tls_verification_enabled: false,
    migration_compression: false,
  };
}

function sr(): Rec {
  return {
    ...named(),
    ...operations(),
    VDIs: [],
    PBDs: [],
    virtual_allocation: 0,
    physical_utilisation: 0,
    physical_size: 0,
    type: '',
    content_type: 'user',
    shared: false,
    other_config: {},
    tags: [],
    sm_config: {},
    blobs: {},
    local_cache_enabled: false,
    introduced_by: NULL_REF,
    clustered: false,
    is_tools_sr: false,
  };
}

function vbd(): Rec {
  return {
    ...device(),
    VM: NULL_REF,
    VDI: NULL_REF,
    device: '',
    userdevice: '',
    bootable: false,
    mode: 'RW',
    type: 'Disk',
    unpluggable: true,
    storage_lock: false,
    empty: false,
    metrics: NULL_REF,
  };
}

function vif(): Rec {
  return {
    ...device(),
    device: '0',
    network: NULL_REF,
    VM: NULL_REF,
    MAC: '',
    MTU: 1500,
    metrics: NULL_REF,
    MAC_autogenerated: false,
    locking_mode: 'network_default',
    ipv4_allowed: [],
    ipv6_allowed: [],
  };
}

/** Makers of empty records, by class. The order is the one in which the pool lists its classes. */
export const EMPTY_RECORDS: Readonly<Record<string, () => Rec>> = {
  task,
  pool,
  host,
  VM: vm,
  VBD: vbd,
  VDI: vdi,
  VIF: vif,
  SR: sr,
  ...SMALL_RECORDS,
};

/** Field of a class that refers to one object, and the set on the other side that xapi keeps in step. */
export const BACK_LINKS: readonly { from: string; field: string; to: string; set: string }[] = [
  { from: 'VBD', field: 'VM', to: 'VM', set: 'VBDs' },
  { from: 'VBD', field: 'VDI', to: 'VDI', set: 'VBDs' },
  { from: 'VIF', field: 'VM', to: 'VM', set: 'VIFs' },
  { from: 'VIF', field: 'network', to: 'network', set: 'VIFs' },
  { from: 'VTPM', field: 'VM', to: 'VM', set: 'VTPMs' },
  { from: 'VUSB', field: 'VM', to: 'VM', set: 'VUSBs' },
  { from: 'VDI', field: 'SR', to: 'SR', set: 'VDIs' },
  { from: 'PBD', field: 'SR', to: 'SR', set: 'PBDs' },
  { from: 'PBD', field: 'host', to: 'host', set: 'PBDs' },
  { from: 'PIF', field: 'host', to: 'host', set: 'PIFs' },
  { from: 'PIF', field: 'network', to: 'network', set: 'PIFs' },
  { from: 'VM', field: 'snapshot_of', to: 'VM', set: 'snapshots' },
  { from: 'VM', field: 'parent', to: 'VM', set: 'children' },
  { from: 'VM', field: 'resident_on', to: 'host', set: 'resident_VMs' },
  { from: 'VDI', field: 'snapshot_of', to: 'VDI', set: 'snapshots' },
  { from: 'Certificate', field: 'host', to: 'host', set: 'certificates' },
  { from: 'task', field: 'subtask_of', to: 'task', set: 'subtasks' },
];
